package external

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"ztm/apps"
	"ztm/apps/external/bundle"
	"ztm/apps/external/install"
	"ztm/apps/external/manifest"
	"ztm/tunnel/answer"
	"ztm/tunnel/unixtime"
)

// What the owner's command line asks for by flows, a line of JSON at a time:
//
//	app/sign     bundle.Bundle -> Signature
//	app/install  bundle.Signed -> Answered; install.Consent, then the bytes of all files in the order
//	             of the bundle -> Installation
//	app/log      ?app=PROVIDER/NAME[&follow=1] -> what its program wrote
//	app/run      Trial -> the log; the program ends with the flow. Only from this endpoint itself.
//
// Files come by the flow, so they are read by the account that types the command, and nothing of
// them is kept twice.

// Signature is the answer of app/sign.
type Signature struct {
	Signed bundle.Signed `json:"signed"`
	Error  *answer.Error `json:"error,omitempty"`
}

// Answered is the answer of app/install to a bundle.
type Answered struct {
	Offer install.Offer `json:"offer"`
	Error *answer.Error `json:"error,omitempty"`
}

// Installation is the end of app/install.
type Installation struct {
	App   install.App   `json:"app"`
	Error *answer.Error `json:"error,omitempty"`
}

// Trial is a program that somebody works on.
type Trial struct {
	Dir        string `json:"dir"` // absolute
	Unconfined bool   `json:"unconfined,omitempty"`
}

// Lines is a flow of lines of JSON. It belongs to one goroutine for each direction.
type Lines struct {
	net.Conn
	r *bufio.Reader
}

// maxLine is the longest line, in bytes.
const maxLine = bundle.MaxSigned + 4<<10

// accept accepts a flow of lines.
func accept(f apps.Flow) (*Lines, error) {
	c, err := f.Accept()
	if err != nil {
		return nil, err
	}
	return NewLines(c), nil
}

// NewLines speaks lines of JSON on a flow.
func NewLines(c net.Conn) *Lines { return &Lines{c, bufio.NewReaderSize(c, maxLine)} }

// Get reads a line into v.
func (l *Lines) Get(v any) error {
	line, err := l.r.ReadSlice('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(line, v)
}

// Put writes v as a line.
func (l *Lines) Put(v any) error {
	line, err := json.Marshal(v)
	if err == nil {
		_, err = l.Write(append(line, '\n'))
	}
	return err
}

// Reader returns what follows the lines that were read.
func (l *Lines) Reader() io.Reader { return l.r }

// public is an error as it is told; nil for nil.
func public(err error) *answer.Error {
	if err == nil {
		return nil
	}
	return answer.Public(err)
}

// serveSign signs a bundle of this endpoint's own user.
func (a *App) serveSign(f apps.Flow) {
	l, err := accept(f)
	if err != nil {
		return
	}
	defer l.Close()
	var b bundle.Bundle
	if err = l.Get(&b); err != nil {
		return
	}
	s, err := a.sign(&b)
	l.Put(Signature{s, public(err)})
}

// published is the key of the last sequence number that was signed here for an app.
func published(name string) string { return "published/" + name }

// sign gives a bundle its provider, its time and a sequence number behind all that are known, and
// signs it.
func (a *App) sign(b *bundle.Bundle) (bundle.Signed, error) {
	var last uint64
	if _, err := a.host.State.Load(published(b.Manifest.Name), &last); err != nil {
		return bundle.Signed{}, err
	}
	b.Manifest.Provider = a.host.Mesh.Self().User
	b.Manifest.Sequence = max(b.Manifest.Sequence, last) + 1
	b.Time = unixtime.MillisOf(time.Now())
	s, err := bundle.Sign(a.host.Notary, b)
	if err != nil {
		return s, answer.Errorf(answer.BadRequest, "%v", err)
	}
	return s, a.host.State.Save(published(b.Manifest.Name), b.Manifest.Sequence)
}

// serveInstall takes a bundle and its files.
func (a *App) serveInstall(f apps.Flow) {
	l, err := accept(f)
	if err != nil {
		return
	}
	defer l.Close()
	var signed bundle.Signed
	if err := l.Get(&signed); err != nil {
		return
	}
	offer, err := a.store.Examine(signed)
	if l.Put(Answered{offer, public(err)}) != nil || err != nil {
		return
	}
	var consent install.Consent
	if err := l.Get(&consent); err != nil {
		return // the owner does not agree
	}
	files := &io.LimitedReader{R: l.r, N: offer.Bytes}
	one, err := a.store.Install(signed, func(f bundle.File) (io.ReadCloser, error) {
		return io.NopCloser(io.LimitReader(files, f.Size)), nil
	}, consent)
	if l.Put(Installation{one, public(err)}) == nil {
		io.Copy(io.Discard, files) // so that the answer arrives
	}
}

// serveLog shows what a program wrote.
func (a *App) serveLog(ctx context.Context, f apps.Flow) {
	id := f.Query().Get("app")
	if _, err := a.describe(id); err != nil {
		f.Refuse(err)
		return
	}
	conn, err := f.Accept()
	if err != nil {
		return
	}
	defer conn.Close()
	ctx, cancel := until(ctx, conn)
	defer cancel()
	a.copyLog(ctx, id, conn, f.Query().Get("follow") != "")
}

// until returns a context that ends when the other side of a flow closes it.
func until(ctx context.Context, r io.Reader) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() { // ends with the flow
		defer cancel()
		io.Copy(io.Discard, r)
	}()
	return ctx, cancel
}

// copyLog writes what a program wrote; with follow until ctx ends.
func (a *App) copyLog(ctx context.Context, id string, w io.Writer, follow bool) {
	r, err := a.runner(id)
	if err != nil {
		return
	}
	for from, first := int64(0), true; first || follow && ctx.Err() == nil; first = false {
		var text []byte
		text, from = r.Log(ctx, from, !first)
		if _, err := w.Write(text); err != nil {
			return
		}
	}
}

// serveRun runs a program that somebody works on, for as long as they look.
func (a *App) serveRun(ctx context.Context, f apps.Flow) {
	l, err := accept(f)
	if err != nil {
		return
	}
	defer l.Close()
	var t Trial
	if err := l.Get(&t); err != nil {
		return
	}
	if err := a.try(ctx, l, t); err != nil {
		fmt.Fprintf(l, "ztm: %v\n", public(err))
	}
}

// try starts a trial, shows its log and ends it.
func (a *App) try(ctx context.Context, l *Lines, t Trial) error {
	b, err := bundle.Scan(t.Dir, a.host.Mesh.Self().User, 1)
	if err != nil {
		return answer.Errorf(answer.BadRequest, "%v", err)
	}
	id := b.Manifest.ID()
	r, err := a.runner(id)
	if err != nil {
		return err
	}
	if !a.begin(id, manifest.Installed{Dir: t.Dir, Manifest: b.Manifest, Unconfined: t.Unconfined}) {
		return answer.Errorf(answer.Conflict, "the app %s is being tried out already", id)
	}
	defer a.end(id)
	a.offer()
	r.Stop("it is tried out from another directory")
	ctx, cancel := until(ctx, l.r)
	defer cancel()
	if err := r.Start(ctx); err != nil && !errors.Is(err, context.Canceled) {
		a.copyLog(ctx, id, l, false)
		return err
	}
	a.copyLog(ctx, id, l, true)
	return nil
}

// begin makes a trial take the place of what is installed.
func (a *App) begin(id string, trial manifest.Installed) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, there := a.trials[id]; there {
		return false
	}
	a.trials[id] = trial
	return true
}

// end ends a trial.
func (a *App) end(id string) {
	a.mu.Lock()
	delete(a.trials, id)
	a.mu.Unlock()
	a.changed(id)
}
