package transfer

import (
	"io"
	"sync"
)

// behind writes to the file that comes while what follows is read and hashed. The zero value is ready;
// close ends it. It belongs to one goroutine.
type behind struct {
	parts chan part // nil before the first
	free  chan []byte
	made  int // buffers
	ended sync.WaitGroup
	open  sync.WaitGroup // parts that are not written

	mu  sync.Mutex
	err error // of the first part that failed since wait; guarded by mu
}

// part is what is to be written.
type part struct {
	to io.WriterAt
	p  []byte
	at int64
}

// parts wait at most; so many buffers and one more are in use.
const waiting = 2

// write has a part written, and returns a buffer in place of the one that the part is in. An error is of
// an earlier part.
func (b *behind) write(to io.WriterAt, p []byte, at int64) ([]byte, error) {
	if b.parts == nil {
		b.parts, b.free = make(chan part, waiting), make(chan []byte, waiting+1)
		b.ended.Go(b.run)
	}
	b.open.Add(1)
	b.parts <- part{to, p, at}
	return b.buffer(), b.failed()
}

// buffer returns one that nothing is written from.
func (b *behind) buffer() []byte {
	if b.made <= waiting {
		select {
		case p := <-b.free:
			return p
		default:
			b.made++
			return nil
		}
	}
	return <-b.free
}

func (b *behind) run() {
	for p := range b.parts {
		if b.failed() == nil {
			if _, err := p.to.WriteAt(p.p, p.at); err != nil {
				b.mu.Lock()
				b.err = err
				b.mu.Unlock()
			}
		}
		b.free <- p.p
		b.open.Done()
	}
}

func (b *behind) failed() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// wait waits until all parts are written, and returns the first error since the last wait.
func (b *behind) wait() error {
	b.open.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	err := b.err
	b.err = nil
	return err
}

func (b *behind) close() {
	if b.parts != nil {
		close(b.parts)
		b.ended.Wait()
	}
}
