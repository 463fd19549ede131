package api

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// lasting is a listener whose place in the file system is made again when something has removed it:
// programs that clean up directories for temporary files take the socket of an agent that has run
// for weeks, and no command could reach the agent then.
type lasting struct {
	open  func() (net.Listener, error)
	there func() bool // the place is still there
	stop  chan struct{}
	once  sync.Once
	done  chan struct{} // closed when watch has ended

	mu     sync.Mutex
	inner  net.Listener // guarded by mu
	closed bool         // guarded by mu
}

// lookEvery is how often a listener looks for its place.
const lookEvery = 15 * time.Second

// newLasting opens a listener that looks for its place every so often.
func newLasting(open func() (net.Listener, error), there func() bool, every time.Duration) (*lasting, error) {
	inner, err := open()
	if err != nil {
		return nil, err
	}
	l := &lasting{open: open, there: there, inner: inner, stop: make(chan struct{}), done: make(chan struct{})}
	go l.watch(every)
	return l, nil
}

func (l *lasting) watch(every time.Duration) {
	defer close(l.done)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if !l.there() {
				l.reopen()
			}
		case <-l.stop:
			return
		}
	}
}

// reopen puts a new listener in the place of the one that cannot be reached. Where that fails it is
// tried again later.
func (l *lasting) reopen() {
	fresh, err := l.open()
	if err != nil {
		return
	}
	l.mu.Lock()
	old := l.inner
	if l.closed {
		old = fresh
	} else {
		l.inner = fresh
	}
	l.mu.Unlock()
	keepFile(old)
	old.Close()
}

func (l *lasting) current() (inner net.Listener, closed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inner, l.closed
}

// Accept waits for a connection, whichever the listener is by then.
func (l *lasting) Accept() (net.Conn, error) {
	for {
		inner, closed := l.current()
		if closed {
			return nil, net.ErrClosed
		}
		c, err := inner.Accept()
		if now, _ := l.current(); err != nil && now != inner && errors.Is(err, net.ErrClosed) {
			continue // it was replaced
		}
		return c, err
	}
}

// Close closes the listener, removes its place and waits for what the listener has started.
func (l *lasting) Close() (err error) {
	l.once.Do(func() {
		l.mu.Lock()
		l.closed = true
		inner := l.inner
		l.mu.Unlock()
		close(l.stop)
		<-l.done
		err = inner.Close()
	})
	return err
}

// Addr is where the listener listens now.
func (l *lasting) Addr() net.Addr {
	inner, _ := l.current()
	return inner.Addr()
}

// there reports whether something is at a path, or that this cannot be told.
func there(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// listener removes the file that says how to use it when it is closed, unless another has taken its
// place.
type listener struct {
	net.Listener
	path string
	once sync.Once
	kept atomic.Bool
}

// Close closes the listener.
func (l *listener) Close() error {
	l.once.Do(func() {
		if !l.kept.Load() {
			os.Remove(l.path)
		}
	})
	return l.Listener.Close()
}

// keepFile has a listener leave its place alone when it is closed: another has taken it.
func keepFile(l net.Listener) {
	switch l := l.(type) {
	case *net.UnixListener:
		l.SetUnlinkOnClose(false)
	case *listener:
		l.kept.Store(true)
		keepFile(l.Listener)
	}
}
