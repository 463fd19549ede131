package process

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"ztm/tunnel/answer"
)

// Streams are the caller's ends of a program.
type Streams struct {
	Stdin   io.Reader // nil is empty; an error other than io.EOF ends Drive, which returns it
	Stdout  io.Writer
	Stderr  io.Writer
	Sizes   <-chan Size   // may be nil; never closed
	Signals <-chan string // names without SIG; may be nil; never closed; the second one ends Drive
	Started func(Started) // may be nil; called once, before any output
}

// ErrLost is returned when the flow ended before the program did.
var ErrLost = errors.New("the connection was lost")

// Drive runs a program at the other end of the flow. It sends start with its source; a nil start
// returns to a running program. Then it moves streams, sizes and signals until the program ends,
// and closes the flow. If the program could not be started, Drive returns the endpoint's
// *[answer.Error]. A Read of Stdin may still be blocked when Drive returns; what it reads is lost.
func Drive(conn net.Conn, start any, source []byte, st Streams) (Exit, error) {
	d := &drive{Conn: opened(conn), st: st, failed: make(chan error, 1)}
	if start != nil {
		d.window = Window
		if err := d.begin(start, source); err != nil {
			var public *answer.Error
			conn.Close()
			if !errors.As(err, &public) {
				err = ErrLost
			}
			return Exit{}, err
		}
	}
	return d.run()
}

// run does what Drive does after start.
func (d *drive) run() (Exit, error) {
	d.open = sync.NewCond(&d.mu)
	stop := make(chan struct{})
	go d.feed() // ends with Stdin, or with its next read after Drive
	var watching sync.WaitGroup
	watching.Go(func() { d.watch(stop) })
	exit, err := d.follow()
	close(stop)
	d.end()
	d.conn.Close() // before Wait: watch may be in the middle of a write
	watching.Wait()
	select {
	case cause := <-d.failed:
		return exit, cause
	default:
		return exit, err
	}
}

// drive is one run of Drive.
type drive struct {
	*Conn
	st     Streams
	failed chan error // capacity 1: why this side ended it; never closed

	mu     sync.Mutex
	open   *sync.Cond // window or over changed
	window int
	over   bool
}

func (d *drive) begin(start any, source []byte) error {
	if err := d.sendJSON(kindStart, start); err != nil {
		return err
	}
	for len(source) > 0 {
		n := min(len(source), maxData)
		if err := d.sendBytes(kindSource, source[:n]); err != nil {
			return err
		}
		source = source[n:]
	}
	return nil
}

func (d *drive) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = true
	d.open.Broadcast()
}

// fail ends the run because of an error on this side.
func (d *drive) fail(err error) {
	select {
	case d.failed <- err:
	default:
	}
	d.abort()
}

// feed sends stdin as far as the window is open.
func (d *drive) feed() {
	buf := make([]byte, header+chunk)
	for d.st.Stdin != nil {
		n, err := d.st.Stdin.Read(buf[header:])
		for p := buf[header : header+n]; len(p) > 0; {
			m := d.acquire(len(p))
			if m == 0 || d.sendBytes(kindStdin, p[:m]) != nil {
				return
			}
			p = p[m:]
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			d.fail(err)
			return
		}
	}
	d.sendBytes(kindEOF, nil)
}

// acquire waits for the window and takes up to n bytes of it; 0 when the run is over.
func (d *drive) acquire(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.window == 0 && !d.over {
		d.open.Wait()
	}
	if d.over {
		return 0
	}
	n = min(n, d.window)
	d.window -= n
	return n
}

// watch forwards sizes and signals.
func (d *drive) watch(stop <-chan struct{}) {
	signalled := false
	for {
		select {
		case <-stop:
			return
		case s := <-d.st.Sizes:
			p := binary.BigEndian.AppendUint16(nil, s.Cols)
			d.sendBytes(kindResize, binary.BigEndian.AppendUint16(p, s.Rows))
		case name := <-d.st.Signals:
			if signalled {
				d.fail(ErrLost)
				return
			}
			signalled = true
			d.sendBytes(kindSignal, []byte(name))
		}
	}
}

// follow reads frames until the end.
func (d *drive) follow() (Exit, error) {
	for {
		k, p, err := d.next()
		if err != nil {
			return Exit{}, ErrLost
		}
		switch k {
		case kindStdout:
			_, err = d.st.Stdout.Write(p)
		case kindStderr:
			_, err = d.st.Stderr.Write(p)
		case kindWindow:
			err = d.widen(int64(binary.BigEndian.Uint32(p)))
		case kindStarted:
			var s Started
			if err = json.Unmarshal(p, &s); err == nil && d.st.Started != nil {
				d.st.Started(s)
			}
		case kindExit:
			var e Exit
			err = json.Unmarshal(p, &e)
			return e, err
		case kindFailed:
			e := &answer.Error{}
			if err = json.Unmarshal(p, e); err == nil {
				err = e
			}
			return Exit{}, err
		}
		if err != nil {
			d.abort()
			return Exit{}, err
		}
	}
}

func (d *drive) widen(n int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if int64(d.window)+n > Window {
		return fmt.Errorf("the window grew beyond %d bytes", Window)
	}
	d.window += int(n)
	d.open.Broadcast()
	return nil
}
