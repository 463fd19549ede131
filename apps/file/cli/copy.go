package cli

import (
	"context"
	"fmt"
	"net"
	"net/url"

	"ztm/apps"
	"ztm/apps/file"
	"ztm/apps/file/transfer"
	"ztm/tunnel/limit"
)

// copier is one command that copies.
type copier struct {
	apps.Console
	o     transfer.Options
	quiet bool
	pace  limit.Pace
	sum   transfer.Report
}

// all copies each source to one target.
func (k *copier) all(ctx context.Context, from []string, to string) error {
	target, err := locate(ctx, k, to)
	if err != nil {
		return err
	}
	var sources []place
	for _, arg := range from {
		src, err := locate(ctx, k, arg)
		if err != nil {
			return err
		}
		if src.here && target.here {
			return &apps.HintError{Err: apps.Usagef("%v and %v are both here", apps.Bytes(arg), apps.Bytes(to)), Hint: "name the endpoint: ztm file cp EP:PATH PATH"}
		}
		sources = append(sources, src)
	}
	for _, src := range sources {
		if err := k.copy(ctx, src, target, len(sources) > 1); err != nil {
			return err
		}
	}
	return k.conclude()
}

// copy copies one source. into says that the target has to be a directory.
func (k *copier) copy(ctx context.Context, from, to place, into bool) error {
	name := base(from.path)
	if name == "" || name == "." || name == ".." {
		return apps.Usagef("%v has no name that its copy could have: name what is in it", apps.Bytes(from.path))
	}
	k.o.Meter = &transfer.Meter{}
	switch {
	case from.here:
		src, err := file.Origin(from.path, k.o.Recursive)
		if err != nil {
			return err
		}
		defer src.Dir.Close()
		conn, err := k.openWrite(ctx, to, name, into)
		if err != nil {
			return err
		}
		return k.drive(ctx, name, func() (transfer.Report, error) { return transfer.Send(k.pace.Conn(conn), []transfer.Source{src}, k.o) }, conn)
	case to.here:
		target, err := file.Destination(to.path, name, into)
		if err != nil {
			return err
		}
		defer target.Dir.Close()
		conn, err := k.openRead(ctx, from)
		if err != nil {
			return err
		}
		return k.drive(ctx, name, func() (transfer.Report, error) { return transfer.Receive(k.pace.Conn(conn), target, k.o) }, conn)
	}
	near, err := k.openRead(ctx, from)
	if err != nil {
		return err
	}
	far, err := k.openWrite(ctx, to, name, into)
	if err != nil {
		near.Close()
		return err
	}
	return k.drive(ctx, name, func() (transfer.Report, error) { return transfer.Join(k.pace.Conn(near), far, k.o) }, near, far)
}

func (k *copier) openRead(ctx context.Context, from place) (net.Conn, error) {
	q := url.Values{"path": {from.path}}
	flag(q, "recursive", k.o.Recursive)
	flag(q, "update", k.o.Update)
	conn, err := k.Open(ctx, from.ep.ID, file.Name+"/read", q)
	return conn, apps.OwnerHint(err, mayRead)
}

// mayRead is how an owner allows it.
const mayRead = "ztm file allow PATH --users USER"

func (k *copier) openWrite(ctx context.Context, to place, name string, into bool) (net.Conn, error) {
	q := url.Values{"path": {to.path}, "name": {name}}
	flag(q, "into", into || len(to.path) > 0 && to.path[len(to.path)-1] == '/')
	flag(q, "update", k.o.Update)
	flag(q, "keep", k.o.Keep)
	conn, err := k.Open(ctx, to.ep.ID, file.Name+"/write", q)
	return conn, apps.OwnerHint(err, mayRead+" --write")
}

func flag(q url.Values, name string, on bool) {
	if on {
		q.Set(name, "")
	}
}

// drive runs a copy with a bar, and adds up what came of it.
func (k *copier) drive(ctx context.Context, name string, run func() (transfer.Report, error), conns ...net.Conn) error {
	stop := onInterrupt(ctx, conns...)
	bar := startBar(k.Stderr(), k.quiet, name, k.o.Meter)
	r, err := run()
	bar()
	interrupted := stop()
	k.sum.Files += r.Files
	k.sum.Bytes += r.Bytes
	k.sum.Same += r.Same
	k.sum.Resumed += r.Resumed
	k.sum.More += r.More
	k.sum.Left = append(k.sum.Left, r.Left...)
	k.sum.Failures = append(k.sum.Failures, r.Failures...)
	if err == nil {
		return nil
	}
	if interrupted {
		err = fmt.Errorf("interrupted after %d files and %s", k.o.Meter.Files.Load(), apps.Amount(k.o.Meter.Bytes.Load()))
	} else {
		err = fmt.Errorf("%v: %w", apps.Bytes(name), err)
	}
	return &apps.HintError{Err: err, Hint: "what has come is kept; the same command goes on from there"}
}

// conclude tells what was not copied, and returns the result of the command.
func (k *copier) conclude() error {
	for _, l := range k.sum.Left {
		fmt.Fprintf(k.Stderr(), "ztm: left out: %v: %s\n", l.Path, apps.Printable(l.Why))
	}
	for _, f := range k.sum.Failures {
		fmt.Fprintf(k.Stderr(), "ztm: %v: %s\n", f.Path, apps.Printable(f.Why))
	}
	if k.sum.More > 0 {
		fmt.Fprintf(k.Stderr(), "ztm: and %d more\n", k.sum.More)
	}
	if err := k.Print(k.sum, nil); err != nil {
		return err
	}
	if failed := int64(len(k.sum.Failures)) + k.sum.More; failed > 0 {
		return fmt.Errorf("not complete: %d of %d files", failed, failed+k.sum.Files)
	}
	return nil
}

// send is `ztm file send`.
func (k *copier) send(ctx context.Context, names []string, to string) error {
	ep, err := k.Trusted(ctx, to)
	if err != nil {
		return err
	}
	k.o.Meter = &transfer.Meter{}
	var sources []transfer.Source
	for _, name := range names {
		src, err := file.Origin(name, k.o.Recursive)
		if err != nil {
			return err
		}
		defer src.Dir.Close()
		sources = append(sources, src)
	}
	conn, err := k.Open(ctx, ep.ID, file.Name+"/inbox", nil)
	if err != nil {
		return apps.OwnerHint(err, "ztm file inbox --add-user USER")
	}
	if self, err := k.Resolve(ctx, ""); err == nil && self.User != ep.User {
		fmt.Fprintf(k.Stderr(), "ztm: waiting for the owner of %s to accept: ztm file inbox\n", apps.Printable(ep.Name))
	}
	err = k.drive(ctx, base(names[0]), func() (transfer.Report, error) { return file.Propose(k.pace.Conn(conn), sources, k.o) }, conn)
	if err != nil {
		return err
	}
	return k.conclude()
}
