package file

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"net/url"
	"path/filepath"
	"time"

	"ztm/apps"
	"ztm/apps/file/transfer"
	"ztm/apps/rooted"
	"ztm/tunnel/answer"
	"ztm/tunnel/splice"
)

// Serve implements [apps.App].
func (a *App) Serve(ctx context.Context, f apps.Flow) {
	switch f.Path() {
	case "list":
		a.visit(f, false, a.list)
	case "read":
		a.visit(f, false, a.read)
	case "write":
		a.visit(f, true, a.write)
	case "inbox":
		a.inbox(ctx, f)
	default:
		f.Refuse(answer.Errorf(answer.NotFound, "%s has no %q", Name, f.Path()))
	}
}

// find returns what a peer means by a path that it may have.
func (a *App) find(c Config, p apps.Peer, path string, write bool) (place, error) {
	if p.User == a.host.Mesh.Self().User {
		at, err := own(expand(path))
		return at, named(path, err)
	}
	g, rest, _ := c.grant(a.named(p), expand(path), write)
	at, err := below(g, rest)
	return at, named(path, err)
}

// named says whether a list of users means a peer.
func (a *App) named(p apps.Peer) func([]string) bool {
	return func(who []string) bool { return a.host.Names(p, who) }
}

func named(path string, err error) error {
	if err == nil {
		return nil
	}
	return outward(path, err)
}

// deep returns the path that a flow reaches with all that is below it; "" is none.
func deep(q url.Values, write bool) string {
	switch {
	case write:
		return filepath.Join(expand(q.Get("path")), q.Get("name"))
	case q.Has("recursive"):
		return expand(q.Get("path"))
	}
	return ""
}

// may returns nil if a peer may have a path, and another one with all that is below it. What is there,
// and whether anything is, makes no difference to the answer.
func (a *App) may(c Config, p apps.Peer, path, deep string, write bool) error {
	self := a.host.Mesh.Self()
	if p.User == self.User && p.User != "" {
		return nil
	}
	if c.gives(a.named(p), expand(path), deep, write) {
		return nil
	}
	if path == "" {
		path = "~"
	}
	verb, option := "read", ""
	if write {
		verb, option = "write", " --write"
	}
	return answer.Errorf(answer.Denied, "user %q may not %s %v on %s; its owner can allow it with: ztm ep %s file allow PATH --users %s%s",
		p.User, verb, apps.Bytes(path), self.Name, self.Name, p.User, option)
}

// gives reports whether a configuration gives somebody a path, and another one with all below it.
func (c Config) gives(named func([]string) bool, path, deep string, write bool) bool {
	if _, _, ok := c.grant(named, path, write); !ok || c.alias(named, path, write, false) {
		return false
	}
	return deep == "" || c.whole(named, deep, write) && !c.alias(named, deep, write, true)
}

// visit checks a peer, and has a function handle its flow.
func (a *App) visit(f apps.Flow, write bool, handle func(apps.Flow, place, *visit) error) {
	path, below := f.Query().Get("path"), deep(f.Query(), write)
	c, err := a.settings.Get()
	v := &visit{peer: f.Peer(), stop: func() {}, may: func(c Config) error { return a.may(c, f.Peer(), path, below, write) }}
	var at place
	if err == nil {
		err = v.may(c)
	}
	if err == nil {
		at, err = a.find(c, f.Peer(), path, write)
	}
	if err != nil {
		a.refuse(f, err)
		return
	}
	defer at.close()
	if err := handle(f, at, v); err != nil {
		a.refuse(f, err)
	}
}

// refuse answers "no". That somebody may not do something is in the log of all apps.
func (a *App) refuse(f apps.Flow, err error) {
	if !apps.IsDenial(err) {
		a.refusals.Warn("refused "+string(f.Peer().ID), "file refused", "user", f.Peer().User, "peer", f.Peer().ID, "flow", f.Path(), "err", err)
	}
	f.Refuse(err)
}

// accept answers "yes" to a flow that counts.
func (a *App) accept(f apps.Flow, v *visit) (net.Conn, error) {
	var conn net.Conn
	ready := make(chan struct{})
	v.stop = func() {
		<-ready
		if conn != nil {
			splice.Abort(conn)
		}
	}
	if err := a.admit(v); err != nil {
		close(ready)
		return nil, err
	}
	got, err := f.Accept()
	conn = got
	close(ready)
	if err != nil {
		a.leave(v)
		return nil, err
	}
	// What was taken away since the look at the configuration ends here.
	if c, err := a.settings.Get(); err != nil || v.may(c) != nil {
		v.stop()
	}
	return got, nil
}

// Info is a file in a listing.
type Info struct {
	Name apps.Bytes `json:"name"`
	Type string     `json:"type"` // file, directory, link, other
	Size int64      `json:"size"`
	Mode string     `json:"mode"` // as ls(1) has it
	Time time.Time  `json:"time"`
}

// line is a line of a listing; the last one says so.
type line struct {
	*Info
	End bool `json:"end,omitempty"`
}

// list answers with what is in a directory, or with a file.
func (a *App) list(f apps.Flow, at place, v *visit) error {
	dir, names, err := at.names()
	if err != nil {
		return outward(f.Query().Get("path"), err)
	}
	defer dir.Close()
	conn, err := a.accept(f, v)
	if err != nil {
		return err
	}
	defer a.leave(v)
	defer conn.Close()
	silent := time.AfterFunc(transfer.IdleTimeout, func() { splice.Abort(conn) })
	defer silent.Stop()
	w := bufio.NewWriterSize(conn, 32<<10)
	e := json.NewEncoder(w)
	for _, n := range names {
		info, err := dir.Stat(n)
		if err != nil {
			continue // has gone meanwhile
		}
		silent.Reset(transfer.IdleTimeout)
		if e.Encode(line{Info: infoOf(n, info)}) != nil {
			return nil
		}
	}
	e.Encode(line{End: true})
	w.Flush() // an error means that the peer has gone
	return nil
}

// names returns the names to be listed, and the directory they are in.
func (p place) names() (*rooted.Dir, []rooted.Name, error) {
	info, err := p.info()
	if err != nil {
		return nil, nil, err
	}
	if !info.IsDir() {
		dir, err := p.dir.At(rooted.Path{})
		return dir, []rooted.Name{p.name}, err
	}
	dir, err := p.inside()
	if err != nil {
		return nil, nil, err
	}
	names, err := dir.Names()
	if err != nil {
		dir.Close()
	}
	return dir, names, err
}

// read sends what is at a place.
func (a *App) read(f apps.Flow, at place, v *visit) error {
	q := f.Query()
	src, err := at.origin(q.Has("recursive"))
	if err != nil {
		return outward(q.Get("path"), err)
	}
	conn, err := a.accept(f, v)
	if err != nil {
		return err
	}
	defer a.leave(v)
	report, err := transfer.Send(conn, []transfer.Source{src}, transfer.Options{Recursive: q.Has("recursive"), Update: q.Has("update")})
	a.ended(f, report, err)
	return nil
}

// write receives what is to be at a place, or in it.
func (a *App) write(f apps.Flow, at place, v *visit) error {
	q := f.Query()
	again, err := at.dir.At(rooted.Path{}) // destination closes it
	if err != nil {
		return outward(q.Get("path"), err)
	}
	to, err := place{again, at.name}.destination(q.Get("name"), q.Has("into"))
	if err != nil {
		return outward(q.Get("path"), err)
	}
	defer to.Dir.Close()
	conn, err := a.accept(f, v)
	if err != nil {
		return err
	}
	defer a.leave(v)
	report, err := transfer.Receive(conn, to, transfer.Options{Update: q.Has("update"), Keep: q.Has("keep")})
	a.ended(f, report, err)
	return nil
}

// ended writes the audit line of a copy.
func (a *App) ended(f apps.Flow, r transfer.Report, err error) {
	a.host.Log.Info("file copied", "user", f.Peer().User, "peer", f.Peer().ID, "flow", f.Path(), "path", apps.Bytes(f.Query().Get("path")).String(),
		"files", r.Files, "bytes", r.Bytes, "failures", len(r.Failures), "err", err)
}
