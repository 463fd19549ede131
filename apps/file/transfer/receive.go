package transfer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
	"time"

	"ztm/apps/rooted"
	"ztm/tunnel/answer"
)

// Target is where a receiver puts what comes.
type Target struct {
	Dir  *rooted.Dir
	Name rooted.Name // of what comes, whatever it is called at the sender; the zero value keeps the names
}

// Receive takes files from a sender until it has no more, and returns what came of it. It closes the
// flow. Without an error, and without failures in the report, everything is complete, verified and
// under its name.
func Receive(conn net.Conn, to Target, o Options) (Report, error) {
	r := &receiver{link: newLink(conn, fromSender, o.IdleTimeout), o: o, meter: o.meter(), to: to}
	err := r.run()
	r.clear()
	if err == nil {
		r.meter.Step.Store(Finishing)
		err = errors.Join(r.sendJSON(kindFinal, r.report), r.flush())
	}
	if err != nil {
		r.abort(err)
	} else {
		io.Copy(io.Discard, io.LimitReader(r.r, small)) // the sender ends the flow when it has the report
	}
	return r.report, r.link.close(err)
}

// receiver is one run of Receive, by one goroutine.
type receiver struct {
	*link
	o     Options
	meter *Meter
	to    Target

	seen   uint32   // entries
	levels []*level // directories from the top to where the last entry is
	queue  []pending
	now    *writing // the file whose content comes; nil between two
	report Report
	sole   bool // what earlier copies left has gone
}

// level is a directory that entries are in.
type level struct {
	in    *rooted.Dir // where it is
	dir   *rooted.Dir // nil if it could not be made: all in it fails
	name  rooted.Name
	path  string // for the report
	sent  string // the path as the sender has it
	entry entry
}

// pending is what is done when the content before it is complete: a file is begun, or a directory is
// left.
type pending struct {
	file *writing
	left *level
}

// maxQueue is how much may be pending: a sender announces a limited number of entries ahead.
const maxQueue = 2*ahead + 300

// run takes frames until the sender has no more.
func (r *receiver) run() error {
	r.levels = []*level{{dir: r.to.Dir}}
	sweep(r.to.Dir)
	for {
		k, p, err := r.next()
		if err != nil {
			return err
		}
		switch k {
		case kindEntry:
			err = r.entry(p)
		case kindTotal:
			r.meter.TotalFiles.Store(int64(binary.BigEndian.Uint64(p)))
			r.meter.TotalBytes.Store(int64(binary.BigEndian.Uint64(p[8:])))
		case kindDone:
			if err := r.leave(1); err != nil {
				return err
			}
			if len(r.queue) > 0 || r.now != nil {
				return fmt.Errorf("%w: the end, with files missing", errProtocol)
			}
			return nil
		default:
			err = r.content(k, p)
		}
		if err != nil {
			return err
		}
	}
}

// clear drops what is not complete, and keeps what the next attempt can use.
func (r *receiver) clear() {
	if r.now != nil {
		r.now.keep()
	}
	for _, p := range r.queue {
		if p.file != nil {
			p.file.keep()
		} else {
			p.left.close()
		}
	}
	for _, l := range r.levels[min(1, len(r.levels)):] {
		l.close()
	}
}

func (l *level) close() {
	if l.dir != nil {
		l.dir.Close()
	}
}

// entry takes an announcement.
func (r *receiver) entry(p []byte) error {
	e, n, err := parseEntry(p)
	if err != nil {
		return err
	}
	if e.Depth >= len(r.levels) {
		return fmt.Errorf("%w: %v is in a directory that was not announced", errProtocol, n)
	}
	id := r.seen
	r.seen++
	if err := r.leave(e.Depth + 1); err != nil {
		return err
	}
	at := r.levels[e.Depth]
	path := strings.TrimPrefix(at.path+"/"+string(e.Name), "/")
	var refusal error
	if e.Depth == 0 {
		n, refusal = r.top(n, id, e)
	}
	switch {
	case e.Type == typeLeft:
		r.report.add(r.listOf(e), path, e.Why)
		return nil
	case e.Type == typeDir:
		return r.directory(at, n, path, e, refusal)
	}
	if refusal == nil && r.o.Admit != nil {
		refusal = r.o.Admit(strings.TrimPrefix(at.sent+"/"+string(e.Name), "/"), e.Size)
	}
	w := &writing{receiver: r, id: id, entry: e, dir: at.dir, name: n, path: path}
	if at.dir == nil {
		refusal = errNoDirectory
	}
	if err := w.prepare(refusal); err != nil {
		return err
	}
	return r.push(pending{file: w})
}

var errNoDirectory = errors.New("its directory is not there")

// listOf returns where something that the sender left out belongs: links are never copied; what it
// could not read is a failure.
func (r *receiver) listOf(e entry) *[]Failure {
	if e.Depth == 0 {
		return &r.report.Failures // it was asked for by its name
	}
	switch e.Why {
	case "a symbolic link", "a pipe", "a socket", "a device":
		return &r.report.Left
	}
	return &r.report.Failures
}

// top decides under which name something at the top comes, or why not.
func (r *receiver) top(n rooted.Name, id uint32, e entry) (rooted.Name, error) {
	if r.to.Name != (rooted.Name{}) {
		if id > 0 {
			return n, fmt.Errorf("%w: more than was asked for", errProtocol)
		}
		return r.to.Name, nil
	}
	if !r.o.Hidden && strings.HasPrefix(string(n.Bytes()), ".") {
		return n, answer.Errorf(answer.Denied, "names that begin with a dot are not taken")
	}
	if !r.o.Number || e.Type == typeLeft {
		return n, nil
	}
	return free(r.to.Dir, n)
}

// free returns the name, or the first one with a number that nothing has yet.
func free(d *rooted.Dir, n rooted.Name) (rooted.Name, error) {
	s, ext := string(n.Bytes()), ""
	if i := strings.LastIndexByte(s, '.'); i > 0 {
		s, ext = s[:i], s[i:]
	}
	for i := 2; i < 1000; i++ {
		if _, err := d.Stat(n); errors.Is(err, fs.ErrNotExist) {
			return n, nil
		}
		next, err := rooted.LocalName(fmt.Sprintf("%s-%d%s", s, i, ext))
		if err != nil {
			return n, err
		}
		n = next
	}
	return n, fs.ErrExist
}

// directory makes one, and goes into it.
func (r *receiver) directory(at *level, n rooted.Name, path string, e entry, refusal error) error {
	l := &level{in: at.dir, name: n, path: path, sent: strings.TrimPrefix(at.sent+"/"+string(e.Name), "/"), entry: e}
	if len(r.levels) > maxDepth {
		return fmt.Errorf("%w: deeper than %d directories", errProtocol, maxDepth)
	}
	err := refusal
	if err == nil && at.dir == nil {
		err = errNoDirectory
	}
	if err == nil && r.o.AdmitDir != nil {
		if why := r.o.AdmitDir(l.sent); why != nil {
			r.report.add(&r.report.Left, path, Reason(why))
			err = errNoDirectory
		}
	}
	if err == nil {
		// Writable until all is in it.
		err = at.dir.Mkdir(n, fs.FileMode(e.Mode)|0o700)
	}
	if old := errors.Is(err, fs.ErrExist); err == nil || old {
		if l.dir, err = at.dir.Sub(n); err == nil && old {
			sweep(l.dir)
		}
	}
	if err != nil && !errors.Is(err, errNoDirectory) {
		r.report.add(&r.report.Failures, path, Reason(err))
	}
	r.levels = append(r.levels, l)
	return nil
}

// leftTime is how long what an interrupted copy has left waits for the next one.
const leftTime = 30 * 24 * time.Hour

// sweep removes from a directory what copies have left that nobody went on with. What cannot be
// removed is lost room, and no more.
func sweep(d *rooted.Dir) { d.Sweep(time.Now().Add(-leftTime)) }

// alone removes what earlier copies have left, be it of yesterday. What somebody writes stays.
func (r *receiver) alone() {
	if !r.o.Sole || r.sole {
		return
	}
	r.sole = true
	soon := time.Now().Add(leftTime)
	r.to.Dir.Sweep(soon)
	r.to.Dir.Walk(func(in *rooted.Dir, n rooted.Name, _ rooted.Path, info fs.FileInfo, err error) error {
		if err != nil || !info.IsDir() {
			return nil
		}
		if d, err := in.Sub(n); err == nil {
			d.Sweep(soon)
			d.Close()
		}
		return nil
	})
}

// maxDepth is how deep a tree may be: a handle of each level is open.
const maxDepth = 300

// leave goes up until so many levels are left.
func (r *receiver) leave(levels int) error {
	for len(r.levels) > levels {
		last := r.levels[len(r.levels)-1]
		r.levels = r.levels[:len(r.levels)-1]
		if err := r.push(pending{left: last}); err != nil {
			return err
		}
	}
	return nil
}

// push adds what is to be done after all that is pending.
func (r *receiver) push(p pending) error {
	if len(r.queue) >= maxQueue {
		return fmt.Errorf("%w: too many entries ahead", errProtocol)
	}
	r.queue = append(r.queue, p)
	r.advance()
	return nil
}

// advance begins the next file if none is being written, and leaves the directories before it.
func (r *receiver) advance() {
	for r.now == nil && len(r.queue) > 0 {
		p := r.queue[0]
		r.queue = r.queue[1:]
		if p.file != nil {
			r.now = p.file
			if r.now.skipped {
				r.now = nil
			}
			continue
		}
		p.left.close()
		if p.left.dir != nil {
			if err := p.left.in.SetAttributes(p.left.name, fs.FileMode(p.left.entry.Mode), p.left.entry.changed()); err != nil {
				r.report.add(&r.report.Failures, p.left.path, Reason(err))
			}
		}
	}
}

// content takes a frame of the file whose turn it is.
func (r *receiver) content(k kind, p []byte) error {
	if r.now == nil {
		return fmt.Errorf("%w: content of no file", errProtocol)
	}
	over, err := r.now.take(k, p)
	if err != nil {
		return err
	}
	if over {
		r.now = nil
		r.advance()
	}
	return nil
}

func parseEntry(p []byte) (e entry, n rooted.Name, err error) {
	if err = decode(p, &e); err == nil {
		n, err = e.check()
	}
	return e, n, err
}
