package fetch

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"ztm/apps/cloud/blocks"
	"ztm/apps/cloud/wire"
	"ztm/tunnel/identity"
	"ztm/tunnel/splice"
)

// link is the flow to one source, for all jobs. It lives while a job has the source.
type link struct {
	f    *Fetcher
	id   identity.ID
	sent []*asked // in the order of the answers to come; guarded by f.mu
	cost int      // of those; guarded by f.mu
	over bool     // nothing more is asked; guarded by f.mu
	void bool     // nobody waits for what it owes; guarded by f.mu
	lost bool     // no answers come any longer; guarded by f.mu
	slow *time.Timer

	since time.Time // when the first of those sent became the first; guarded by f.mu
	speed float64   // of its blocks, in bytes a second; 0: not known yet; guarded by f.mu
}

// asked is a request that waits for its answer.
type asked struct {
	wire.Request
	j       *job
	cost    int
	lent    bool // another source was asked as well, and what comes here is dropped; guarded by f.mu
	writing bool // a part of it is being written; guarded by f.mu
}

// wholeBlock is the share of the budget that a block of the usual size has.
const wholeBlock = 32

// cost is the share of the budget that an answer of a length takes.
func cost(length int64) int { return int(max(1, min(wholeBlock, length*wholeBlock/blocks.MinBlock))) }

// most is how long the answer to a request can be.
func (a *asked) most() int64 {
	count := blocks.Count(a.j.Content.Size)
	switch a.Op {
	case wire.List:
		return int64(count) * blocks.HashSize
	case wire.Have:
		return int64(count+7) / 8
	}
	_, length := blocks.Bounds(a.j.Content.Size, int(a.N))
	return length
}

// linkLocked makes sure that there is a link to a source.
func (f *Fetcher) linkLocked(id identity.ID) {
	if f.links[id] == nil {
		l := &link{f: f, id: id}
		f.links[id] = l
		f.running.Go(l.run)
	}
}

// run asks and reads answers until no job has the source, or the source fails.
func (l *link) run() {
	ctx, cancel := context.WithTimeoutCause(context.Background(), l.f.Stall, errors.New("it did not answer"))
	conn, err := l.f.Open(ctx, l.id)
	cancel()
	if err == nil {
		err = l.exchange(conn)
		conn.Close()
	}
	l.close(err)
}

// close gives back what the source owes, and leaves it out of all jobs if it has failed.
func (l *link) close(err error) {
	f := l.f
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.links, l.id)
	for _, a := range l.sent {
		if !a.lent {
			f.budget += a.cost
			a.j.returnLocked(a.Request)
		}
	}
	for _, j := range f.jobs {
		if err != nil {
			f.dropLocked(j, l.id)
		} else if j.sources[l.id] != nil && !j.ended {
			f.linkLocked(l.id) // it came while the link was ending
		}
	}
	if len(f.links) == 0 && f.alarm != nil {
		f.alarm.Stop() // there is nobody to wake
		f.due = time.Time{}
	}
	f.wake.Broadcast()
}

// exchange sends requests in one goroutine and reads answers in this one.
func (l *link) exchange(conn net.Conn) error {
	l.slow = time.AfterFunc(l.f.Stall, func() { conn.Close() })
	l.slow.Stop() // it owes nothing yet
	defer l.slow.Stop()
	var sender sync.WaitGroup
	sender.Go(func() { l.send(conn) })
	err := l.receive(conn)
	l.f.mu.Lock()
	l.lost = true
	if l.void {
		err = nil
	}
	l.f.wake.Broadcast()
	l.f.mu.Unlock()
	conn.Close()
	sender.Wait()
	return err
}

// send sends requests while there are jobs for the source.
func (l *link) send(conn net.Conn) {
	var out []byte
	for {
		out = l.ask(out[:0])
		if len(out) == 0 {
			if !l.awaited() {
				conn.Close()
			} else {
				splice.CloseWrite(conn) // the source ends the flow when it has answered all
			}
			return
		}
		if _, err := conn.Write(out); err != nil {
			return // receive sees it, too
		}
	}
}

// ask appends as many requests as may be sent now, at least one. It waits for the first. Nothing
// says that there is no more to ask.
func (l *link) ask(out []byte) []byte {
	f := l.f
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		needed := false
		for _, j := range f.jobs {
			if j.sources[l.id] != nil && !j.ended {
				needed = true
				out = l.askForLocked(j, out)
			}
		}
		if len(out) == 0 && needed && !l.lost {
			out = l.borrowLocked(out)
		}
		if len(out) > 0 || !needed || l.lost {
			if l.over = len(out) == 0; l.over {
				l.void = len(l.sent) > 0
				l.watchLocked()
			}
			return out
		}
		f.wake.Wait()
	}
}

func (l *link) askForLocked(j *job, out []byte) []byte {
	f := l.f
	share := f.Blocks * wholeBlock / len(f.links) // so that one source does not keep others idle
	for len(out) < 256*wire.RequestSize && f.budget > 0 && (l.cost < share || len(l.sent) == 0) {
		if wait := j.Rate.wait(time.Now()); wait > 0 {
			f.wakeLocked(wait)
			break
		}
		r, ok := j.nextLocked(l.id)
		if !ok {
			break
		}
		out = l.sendLocked(&asked{Request: r, j: j}, out)
	}
	return out
}

// sendLocked appends a request, which waits for its answer from now on.
func (l *link) sendLocked(a *asked, out []byte) []byte {
	now := time.Now()
	a.cost = cost(a.most())
	l.f.budget -= a.cost
	l.cost += a.cost
	if a.Op == wire.Block {
		a.j.Rate.spend(a.most(), now)
	}
	if len(l.sent) == 0 {
		l.slow.Reset(l.f.Stall)
		l.since = now
	}
	l.sent = append(l.sent, a)
	return a.Append(out)
}

// receive reads the answers, in the order of the requests.
func (l *link) receive(conn net.Conn) error {
	r := bufio.NewReaderSize(&paced{Conn: conn, l: l}, readAhead)
	buf := make([]byte, piece)
	for {
		if _, err := r.Peek(1); err != nil {
			if err == io.EOF && l.finished() {
				return nil
			}
			return fmt.Errorf("the source went away: %w", err)
		}
		a, ok := l.first()
		if !ok {
			return errors.New("an answer that nobody asked for")
		}
		head, err := wire.ReadAnswer(r, a.most())
		if err != nil {
			return err
		}
		if err := l.take(a, head, r, buf); err != nil {
			return err
		}
		l.answered(a)
	}
}

const (
	readAhead = 16 << 10        // bytes of answers; most of a block is read to where it is hashed
	piece     = blocks.MinBlock // bytes of a block that are read, hashed and written at once
)

// paced closes the flow of a source that owes something and does not go on.
type paced struct {
	net.Conn
	l   *link
	got int
}

// pace is how many bytes must come within the time of [Config.Stall].
const pace = 16 << 10

func (p *paced) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	if p.got += n; p.got >= pace {
		p.got = 0
		p.l.watch()
	}
	return n, err
}

// watch gives the source more time, or all time where it owes nothing: neither an answer nor, once
// all was asked, the end of the flow.
func (l *link) watch() {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	l.watchLocked()
}

func (l *link) watchLocked() {
	if len(l.sent) > 0 || l.over {
		l.slow.Reset(l.f.Stall)
	} else {
		l.slow.Stop()
	}
}

// finished reports whether the source has answered all that it will be asked.
func (l *link) finished() bool {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	return l.over && len(l.sent) == 0
}

// first returns the request that the next answer is for. It stays among those sent.
func (l *link) first() (a *asked, ok bool) {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	if len(l.sent) == 0 {
		return nil, false
	}
	return l.sent[0], true
}

// answered takes a request off those that wait.
func (l *link) answered(a *asked) {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	l.tookLocked(a, time.Now())
	l.sent = l.sent[1:]
	l.cost -= a.cost
	if !a.lent {
		l.f.budget += a.cost
	}
	l.watchLocked()
	l.f.wake.Broadcast()
}

// take takes an answer. An error is the source's fault, and its end.
func (l *link) take(a *asked, head wire.Answer, r io.Reader, buf []byte) error {
	if head.Status != wire.OK {
		l.refused(a)
		return nil
	}
	if head.Length != a.most() {
		return fmt.Errorf("an answer of %d bytes, not %d", head.Length, a.most())
	}
	if a.Op == wire.Block {
		return l.takeBlock(a, r, buf)
	}
	b := make([]byte, head.Length)
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	if a.Op == wire.List {
		return l.takeListLocked(a.j, b)
	}
	have, err := blocks.ParseBitmap(b, blocks.Count(a.j.Content.Size))
	if s := a.j.sources[l.id]; s != nil && err == nil {
		s.has = have
		a.j.sortLocked()
		l.f.checkLocked(a.j)
	}
	return err
}

func (l *link) takeListLocked(j *job, list blocks.List) error {
	if err := list.Fits(j.Content); err != nil {
		return err
	}
	j.list = list
	l.f.checkLocked(j)
	return nil
}

// refused leaves the source out for what it said that it does not have.
func (l *link) refused(a *asked) {
	f := l.f
	f.mu.Lock()
	defer f.mu.Unlock()
	if !a.lent {
		a.j.returnLocked(a.Request)
	}
	s := a.j.sources[l.id]
	if a.Op != wire.Block || blocks.Count(a.j.Content.Size) < 2 || s == nil {
		f.dropLocked(a.j, l.id)
		return
	}
	s.has.Clear(int(a.N))
	a.j.sortLocked()
	f.checkLocked(a.j)
}

// takeBlock writes a block while it comes, and notes it if it is the right one. What is wrong in the
// file is written again.
func (l *link) takeBlock(a *asked, r io.Reader, buf []byte) error {
	j, n := a.j, int(a.N)
	at, length := blocks.Bounds(j.Content.Size, n)
	sum := sha256.New()
	written := true
	var failed error // to write
	for left := length; left > 0; {
		p := buf[:min(int64(len(buf)), left)]
		if _, err := io.ReadFull(r, p); err != nil {
			return err
		}
		sum.Write(p)
		if written = written && l.f.begins(a); written {
			if failed == nil {
				_, failed = j.File.WriteAt(p, at+length-left)
			}
			l.f.ends(a)
		}
		left -= int64(len(p))
	}
	if !written {
		return nil
	}
	return l.f.wrote(a, length, j.list.Is(n, sum.Sum(nil)), failed)
}

// begins reports whether what comes of a block is still written, and if so holds the file of its job
// until ends. One source at a time writes a block.
func (f *Fetcher) begins(a *asked) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a.j.ended || a.lent || a.j.have.Has(int(a.N)) {
		return false
	}
	a.writing = true
	a.j.writing.Add(1)
	return true
}

func (f *Fetcher) ends(a *asked) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a.writing = false
	a.j.writing.Done()
}

var errWrong = errors.New("a block is not the right one")

// wrote notes a block that was written.
func (f *Fetcher) wrote(a *asked, length int64, right bool, failed error) error {
	j := a.j
	f.mu.Lock()
	switch {
	case !right:
		f.mu.Unlock()
		return errWrong
	case failed != nil:
		f.endLocked(j, failed)
	case !a.lent: // since the last part of it was written
		j.gotLocked(int(a.N), length)
		j.step = Fetching
		f.checkLocked(j)
	}
	p := j.progressLocked()
	f.mu.Unlock()
	j.tell(p)
	return nil
}
