package transfer

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"ztm/apps/rooted"
	"ztm/tunnel/answer"
	"ztm/tunnel/splice"
)

// Source is a file or a directory to be sent.
type Source struct {
	Dir  *rooted.Dir
	Name rooted.Name
}

// Send sends files to a receiver, and returns its report. It closes the flow. A file that cannot be
// read is a failure in the report, and no error.
func Send(conn net.Conn, sources []Source, o Options) (Report, error) {
	s := &sender{link: newLink(conn, fromTaker, o.IdleTimeout), o: o, meter: o.meter(), answers: map[uint32]*reply{}}
	s.came.L = &s.state
	var reading sync.WaitGroup
	reading.Go(s.listen)
	err := s.run(sources)
	if err != nil && !errors.Is(err, errGone) && s.abort(err) != nil {
		reading.Wait() // it cannot be told: the receiver has ended the flow, and may have said why
	}
	if err == nil {
		err = s.conclude()
	}
	err = s.link.close(err)
	reading.Wait()
	if cause := s.cause(); cause != nil && err != nil && !errors.Is(err, errSilent) {
		err = cause
	}
	return s.report, err
}

// sender is one run of Send. Its goroutine walks and writes; another one reads what the receiver
// says.
type sender struct {
	*link
	o     Options
	meter *Meter

	queue []item // announced; content and all that follows is still to be sent
	frame []byte // with content, from its head on

	total   sync.WaitGroup
	counted atomic.Bool

	state   sync.Mutex
	came    sync.Cond         // answers, report or failed changed
	answers map[uint32]*reply // to the entries in queue that wait for one; guarded by state
	sent    uint32            // entries announced; guarded by state
	passed  uint32            // the content of all entries before is over; guarded by state
	report  Report            // guarded by state until final
	final   bool              // guarded by state
	failed  error             // why listening has ended; guarded by state
}

// reply is what the receiver has of a large file.
type reply struct {
	there, skip bool
	group       int64  // blocks in a group
	whole       bool   // it is of no use unless all of it agrees
	hashes      []byte // of groups
}

// item is an entry whose content is to be sent.
type item struct {
	id   uint32
	file *os.File // nil for what has no content
	entry
	seen fs.FileInfo
}

// errGone is an error of the link whose reason is known elsewhere.
var errGone = errors.New("the flow has ended")

// errLeft ends the walk of a source that is left out as a whole.
var errLeft = errors.New("left out")

func (s *sender) cause() error {
	s.state.Lock()
	failed := s.failed
	s.state.Unlock()
	return failed
}

// run sends everything.
func (s *sender) run(sources []Source) error {
	defer func() {
		for _, it := range s.queue {
			it.close()
		}
	}()
	stopCount := s.count(sources)
	defer stopCount()
	if err := s.walk(sources, s.enqueue); err != nil {
		return err
	}
	for len(s.queue) > 0 {
		if err := s.dequeue(); err != nil {
			return err
		}
	}
	if err := s.send(kindDone); err != nil {
		return err
	}
	return s.flush()
}

// enqueue announces an entry. Where enough are announced, it sends the content of the first of them.
func (s *sender) enqueue(it item) error {
	if err := s.announce(it); err != nil {
		return err
	}
	if len(s.queue) < ahead {
		return nil
	}
	return s.dequeue()
}

// dequeue sends the content of the first entry that was announced.
func (s *sender) dequeue() error {
	it := s.queue[0]
	s.queue = s.queue[1:]
	defer it.close()
	return s.content(it)
}

func (it item) close() {
	if it.file != nil {
		it.file.Close()
	}
}

// announce sends an entry, and remembers what has content.
func (s *sender) announce(it item) error {
	s.state.Lock()
	it.id = s.sent
	s.sent++
	if it.large(s.o) {
		s.answers[it.id] = &reply{} // before the receiver can answer
	}
	s.state.Unlock()
	if s.counted.CompareAndSwap(true, false) {
		if err := s.send(kindTotal, two64(uint64(s.meter.TotalFiles.Load()), uint64(s.meter.TotalBytes.Load()))); err != nil {
			return err
		}
	}
	if err := s.sendJSON(kindEntry, it.entry); err != nil {
		it.close()
		return err
	}
	s.queue = append(s.queue, it)
	return nil
}

func two64(a, b uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, a), b)
}

// count adds up what there is to send, meanwhile, where a person waits for it or may at the other
// end.
func (s *sender) count(sources []Source) (stop func()) {
	var ended atomic.Bool
	s.total.Go(func() {
		var files, bytes int64
		for _, src := range sources {
			each(src, func(_ int, _ *rooted.Dir, _ rooted.Name, info fs.FileInfo, _ error) error {
				if ended.Load() {
					return errGone
				}
				if info != nil && info.Mode().IsRegular() {
					files, bytes = files+1, bytes+info.Size()
				}
				return nil
			})
		}
		s.meter.TotalFiles.Store(files)
		s.meter.TotalBytes.Store(bytes)
		s.counted.Store(true)
	})
	return func() {
		ended.Store(true)
		s.total.Wait()
	}
}

// each calls a function for a source and all that is below it.
func each(src Source, call func(depth int, in *rooted.Dir, n rooted.Name, info fs.FileInfo, err error) error) error {
	info, err := src.Dir.Stat(src.Name)
	if err := call(0, src.Dir, src.Name, info, err); err != nil || info == nil || !info.IsDir() {
		return err
	}
	sub, err := src.Dir.Sub(src.Name)
	if err != nil {
		return err
	}
	defer sub.Close()
	return sub.Walk(func(in *rooted.Dir, n rooted.Name, p rooted.Path, info fs.FileInfo, err error) error {
		return call(p.Depth(), in, n, info, err)
	})
}

// Files calls a function for each regular file that a source has, with its path below the directory
// of the source.
func (src Source) Files(call func(path string, size int64) error) error {
	at := []string{}
	return each(src, func(depth int, _ *rooted.Dir, n rooted.Name, info fs.FileInfo, err error) error {
		if err != nil {
			return err
		}
		at = append(at[:depth], string(n.Bytes()))
		if !info.Mode().IsRegular() {
			return nil
		}
		return call(strings.Join(at, "/"), info.Size())
	})
}

// walk calls a function for all entries, files opened, until it fails.
func (s *sender) walk(sources []Source, call func(item) error) (failed error) {
	for _, src := range sources {
		each(src, func(depth int, in *rooted.Dir, n rooted.Name, info fs.FileInfo, err error) error {
			it := s.look(depth, in, n, info, err)
			if failed = call(it); failed == nil && depth == 0 && it.Type == typeLeft {
				return errLeft // with all that is in it
			}
			return failed
		})
		if failed != nil {
			return failed
		}
	}
	return nil
}

// look makes an entry of what the walk found.
func (s *sender) look(depth int, in *rooted.Dir, n rooted.Name, info fs.FileInfo, err error) item {
	it := item{entry: entry{Depth: depth, Name: n.Bytes(), Type: typeLeft}}
	switch {
	case err != nil:
		it.Why = Reason(err)
		return it
	case info.IsDir() && depth == 0 && !s.o.Recursive:
		it.Why = "is a directory"
		return it
	case info.IsDir():
		it.Type = typeDir
	case info.Mode().IsRegular():
		if it.file, err = in.Open(n); err == nil {
			it.seen, err = it.file.Stat()
		}
		if err != nil {
			it.close()
			it.file, it.Why = nil, Reason(err)
			return it
		}
		it.Type, info = typeFile, it.seen
		it.Size, it.Sparse = info.Size(), sparse(info)
	default:
		it.Why = what(info.Mode())
		return it
	}
	it.Mode, it.Time = uint32(info.Mode().Perm()), info.ModTime().UnixNano()
	return it
}

// what says what is never copied.
func what(m fs.FileMode) string {
	switch {
	case m&fs.ModeSymlink != 0:
		return "a symbolic link"
	case m&fs.ModeNamedPipe != 0:
		return "a pipe"
	case m&fs.ModeSocket != 0:
		return "a socket"
	case m&fs.ModeDevice != 0:
		return "a device"
	}
	return "neither a file nor a directory"
}

// Reason says what is wrong with a file, without where it is: the other side has no business with
// paths of this machine.
func Reason(err error) string {
	var at *fs.PathError
	var public *answer.Error
	switch {
	case errors.As(err, &public):
		return public.Message
	case errors.As(err, &at):
		return at.Err.Error()
	}
	for _, known := range []error{rooted.ErrLink, rooted.ErrSpecial, rooted.ErrChanged, rooted.ErrName, rooted.ErrNotHere, fs.ErrExist} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	var link *os.LinkError
	if errors.As(err, &link) {
		return link.Err.Error()
	}
	return "cannot be read or written"
}

// conclude sends the rest, and waits for the report.
func (s *sender) conclude() error {
	s.state.Lock()
	defer s.state.Unlock()
	for !s.final && s.failed == nil {
		s.came.Wait()
	}
	return s.failed
}

// listen reads what the receiver says until its report or the end of the flow.
func (s *sender) listen() {
	for {
		k, p, err := s.next()
		if err == nil {
			err = s.heard(k, p)
		}
		s.state.Lock()
		s.failed = err
		over := err != nil || s.final
		s.came.Broadcast()
		s.state.Unlock()
		if over {
			if err != nil {
				splice.Abort(s.conn) // whoever writes must not wait
			}
			return
		}
	}
}

// heard takes one frame.
func (s *sender) heard(k kind, p []byte) error {
	s.state.Lock()
	defer s.state.Unlock()
	if k == kindFinal {
		s.final = true
		return s.reportLocked(p)
	}
	id := binary.BigEndian.Uint32(p)
	r := s.answers[id]
	switch {
	case id >= s.sent:
		return fmt.Errorf("%w: an answer to what was not said", errProtocol)
	case k == kindRefused && id < s.passed:
		return nil // too late
	case k == kindRefused && r == nil:
		s.answers[id] = &reply{there: true, skip: true}
		return nil
	case k == kindRefused:
		r.there, r.skip = true, true // somebody may be waiting for this one
		return nil
	}
	if r == nil || r.there {
		return fmt.Errorf("%w: an answer that nobody waits for", errProtocol)
	}
	r.there = true
	if k == kindSkip {
		r.skip = true
		return nil
	}
	r.group, r.whole, r.hashes = int64(binary.BigEndian.Uint32(p[4:])), p[8] != 0, append([]byte(nil), p[wantHead:]...)
	if len(r.hashes)%hashSize != 0 || len(r.hashes) > 0 && r.group == 0 {
		return fmt.Errorf("%w: hashes of no size", errProtocol)
	}
	return nil
}

func (s *sender) reportLocked(p []byte) error {
	var r Report
	if err := json.Unmarshal(p, &r); err != nil {
		return fmt.Errorf("%w: its report: %v", errProtocol, err)
	}
	for _, list := range [][]Failure{r.Left, r.Failures} {
		for i := range list {
			list[i].Why = text(list[i].Why)
		}
	}
	s.report = r
	return nil
}

// await returns what the receiver has of a file.
func (s *sender) await(id uint32) (*reply, error) {
	if err := s.flush(); err != nil {
		return nil, err
	}
	s.state.Lock()
	defer s.state.Unlock()
	r := s.answers[id]
	for !r.there && s.failed == nil {
		s.came.Wait()
	}
	if s.failed != nil {
		return nil, errGone
	}
	delete(s.answers, id)
	return r, nil
}

// refused reports whether the receiver does not want the rest of a file.
func (s *sender) refused(id uint32) bool {
	s.state.Lock()
	defer s.state.Unlock()
	r := s.answers[id]
	return r != nil && r.skip
}

// pass notes that the content of an entry is over.
func (s *sender) pass(id uint32) {
	s.state.Lock()
	delete(s.answers, id)
	s.passed = id + 1
	s.state.Unlock()
}
