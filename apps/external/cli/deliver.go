package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"ztm/apps"
	"ztm/apps/external"
	"ztm/apps/external/bundle"
	"ztm/apps/external/install"
	"ztm/apps/external/manifest"
	"ztm/apps/progress"
)

// parcel is a signed bundle and where its files are.
type parcel struct {
	signed bundle.Signed
	*bundle.Bundle
	open bundle.Source
}

// open opens a flow of the owner to the chosen endpoint.
func (k *client) open(ctx context.Context, what string) (*external.Lines, error) {
	ep, err := k.Endpoint(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := k.Open(ctx, ep.ID, external.Name+"/"+what, nil)
	if err != nil {
		return nil, err
	}
	return external.NewLines(conn), nil
}

// packed signs the app in a directory here as one of the user of the chosen endpoint. after is a
// sequence number that is taken already.
func (k *client) packed(ctx context.Context, dir string, after uint64) (*parcel, error) {
	ep, err := k.Endpoint(ctx)
	if err != nil {
		return nil, err
	}
	b, err := bundle.Scan(dir, ep.User, max(after, 1))
	if err != nil {
		return nil, err
	}
	b.Manifest.Sequence = after
	l, err := k.open(ctx, "sign")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	var s external.Signature
	if err := errors.Join(l.Put(b), l.Get(&s)); err != nil {
		return nil, fmt.Errorf("the app was not signed: %w", err)
	}
	if s.Error != nil {
		return nil, s.Error
	}
	p := &parcel{signed: s.Signed, open: func(f bundle.File) (io.ReadCloser, error) {
		return os.Open(filepath.Join(dir, filepath.FromSlash(f.Path)))
	}}
	p.Bundle, err = bundle.Read(s.Signed)
	return p, err
}

// install installs the app in a directory, or a published one.
func (k *client) install(ctx context.Context, what string, yes bool, c install.Consent) (err error) {
	var p *parcel
	if isDir(what) {
		p, err = k.packed(ctx, what, 0)
	} else {
		p, err = k.fetched(ctx, what)
	}
	if err != nil {
		return err
	}
	l, err := k.open(ctx, "install")
	if err != nil {
		return err
	}
	defer l.Close()
	var a external.Answered
	if err := errors.Join(l.Put(p.signed), l.Get(&a)); err != nil {
		return fmt.Errorf("the app was not installed: %w", err)
	}
	if a.Error != nil {
		return a.Error
	}
	if !yes {
		if err := k.agree(a.Offer); err != nil {
			return err
		}
	}
	c.Digest = a.Offer.Digest
	if err := l.Put(c); err != nil {
		return err
	}
	return k.deliver(l, p, a.Offer.Installed)
}

// agree shows what is to be installed, and asks the owner.
func (k *client) agree(o install.Offer) error {
	m := &o.Manifest
	fmt.Fprintf(k.Stderr(), "%s %s (sequence %d), %s in %d files\n", m.ID(), apps.Printable(m.Version), m.Sequence, apps.Amount(o.Bytes), o.Files)
	if m.Command != "" {
		fmt.Fprintf(k.Stderr(), "It brings the command ztm %s: %s\n", m.Name, apps.Printable(m.Command))
	}
	switch {
	case o.Installed != 0 && len(o.Asks) == 0:
		fmt.Fprintf(k.Stderr(), "It may do no more than sequence %d, which is installed.\n", o.Installed)
		return nil
	case len(o.Asks) == 0:
		fmt.Fprintln(k.Stderr(), "It may write to a directory of its own, and be used by those whom you grant it to.")
	default:
		fmt.Fprintln(k.Stderr(), "Beside writing to a directory of its own, it may:")
		for _, right := range o.Asks {
			fmt.Fprintln(k.Stderr(), "  "+apps.Printable(right))
		}
	}
	fmt.Fprint(k.Stderr(), "Install it? [y/N] ")
	line, err := bufio.NewReader(io.LimitReader(k.Stdin(), 100)).ReadString('\n')
	if err != nil {
		fmt.Fprintln(k.Stderr()) // nobody has ended the line of the question
	}
	if s := strings.ToLower(strings.TrimSpace(line)); s != "y" && s != "yes" {
		return &apps.HintError{Err: errors.New("not installed: nobody agreed"), Hint: "to agree without being asked: --yes"}
	}
	return nil
}

// deliver sends the files of a bundle, and reads what became of it. before is the sequence number of
// what was installed.
func (k *client) deliver(l *external.Lines, p *parcel, before uint64) error {
	sent := make(chan error, 1)
	go func() { sent <- k.send(l, p) }() // ends with the flow
	var done external.Installation
	if err := l.Get(&done); err != nil {
		l.Close()
		return errors.Join(fmt.Errorf("the app was not installed: %w", err), <-sent)
	}
	l.Close()
	<-sent
	if done.Error != nil {
		return done.Error
	}
	m := &done.App.Manifest
	text := "Installed %s %s (sequence %d).\n"
	if m.Sequence == before {
		text = "%s %s (sequence %d) was installed already.\n"
	}
	fmt.Fprintf(k.Stderr(), text, m.ID(), apps.Printable(m.Version), m.Sequence)
	return k.Print(done.App, nil)
}

// send writes the files of a bundle to a flow, each with exactly the size that it is to have.
func (k *client) send(w io.Writer, p *parcel) error {
	bar := progress.New(k.Stderr())
	defer bar.End()
	s := progress.State{Step: "sending", Total: p.Bytes(), Of: len(p.Files)}
	for _, f := range p.Files {
		r, err := p.open(f)
		if err != nil {
			return err
		}
		n, err := io.CopyN(w, r, f.Size)
		r.Close()
		if err != nil {
			return err
		}
		s.Done, s.Files, s.Name = s.Done+n, s.Files+1, f.Path
		bar.Show(s, time.Now())
	}
	return nil
}

// try runs the app in a directory until it ends or somebody interrupts.
func (k *client) try(ctx context.Context, dir string, unconfined bool) error {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	ep, err := k.Endpoint(ctx)
	if err != nil {
		return err
	}
	b, err := bundle.Scan(abs, ep.User, 1)
	if err != nil {
		return err
	}
	l, err := k.open(ctx, "run")
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { l.Close() })()
	defer l.Close()
	if err := l.Put(external.Trial{Dir: abs, Unconfined: unconfined}); err != nil {
		return err
	}
	fmt.Fprintf(k.Stderr(), "Running %s from %s, not signed and not installed. Interrupt to end it.\n", b.Manifest.ID(), apps.Printable(abs))
	for _, right := range b.Manifest.Rights.Beyond(manifest.Rights{}) {
		fmt.Fprintln(k.Stderr(), "It may "+apps.Printable(right)+".")
	}
	return printLines(k.Stdout(), l.Reader())
}
