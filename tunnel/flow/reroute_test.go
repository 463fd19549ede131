package flow

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"ztm/tunnel/answer"
)

var errReset = errors.New("reset")

// pipeEnd is one end of a dedicated connection that holds nothing: what one side has written, the
// other has read.
type pipeEnd struct {
	net.Conn // nil: a flow sets no deadlines
	r        *io.PipeReader
	w        *io.PipeWriter
	open     *sync.WaitGroup // of a test; waits until it is closed
	once     sync.Once
}

func newPipes(open *sync.WaitGroup) (near, far *pipeEnd) {
	r1, w1 := io.Pipe()
	r2, w2 := io.Pipe()
	open.Add(2)
	return &pipeEnd{r: r1, w: w2, open: open}, &pipeEnd{r: r2, w: w1, open: open}
}

func (p *pipeEnd) Read(b []byte) (int, error)  { return p.r.Read(b) }
func (p *pipeEnd) Write(b []byte) (int, error) { return p.w.Write(b) }
func (p *pipeEnd) CloseWrite() error           { return p.w.Close() }
func (p *pipeEnd) Close() error                { return p.end(nil) }
func (p *pipeEnd) Reset() error                { return p.end(errReset) }

func (p *pipeEnd) end(err error) error {
	p.once.Do(func() { p.open.Done() })
	p.r.CloseWithError(err)
	return p.w.CloseWithError(err)
}

// outcome is what becomes of a move.
type outcome int

const (
	agreed       outcome = iota
	refusedMove          // by the exit
	answerIsLost         // the exit has agreed, and the entrance does not know
	answerFails          // neither knows
)

// move has a flow go on in another connection at both ends, and returns what the entrance says.
func move(ctx context.Context, entrance, exit *Conn, open *sync.WaitGroup, how outcome) error {
	d1, d2 := newPipes(open)
	answered := make(chan error, 1)
	asks := false
	err := entrance.Reroute(ctx, d1, func() error {
		asks = true
		go func() { // ends with the answer, or with ctx
			if how == refusedMove {
				answered <- &Refused{Reason: answer.Errorf(answer.NotFound, "no such flow")}
				d2.Reset()
				return
			}
			err := exit.Reroute(ctx, d2, func() error {
				switch how {
				case answerIsLost:
					answered <- errReset
				case answerFails:
					answered <- errReset
					return errReset
				default:
					answered <- nil
				}
				return nil
			})
			if errors.Is(err, errMoving) || errors.Is(err, errEnded) || errors.Is(err, errUnknown) {
				d2.Reset()
				select {
				case answered <- &Refused{Reason: answer.Errorf(answer.Conflict, "%v", err)}:
				default:
				}
			}
		}()
		return <-answered
	})
	if !asks {
		d1.Reset()
		d2.Reset()
	}
	return err
}

// say sends bytes in pieces of random sizes, and then the end.
func say(c *Conn, random *rand.Rand, data []byte) error {
	for len(data) > 0 {
		n := min(len(data), 1+random.IntN(3000))
		if _, err := c.Write(data[:n]); err != nil {
			return err
		}
		data = data[n:]
	}
	return c.CloseWrite()
}

// hear reads to the end, in one of the ways that there are.
func hear(c *Conn, random *rand.Rand) ([]byte, error) {
	var b bytes.Buffer
	if random.IntN(2) == 0 {
		_, err := c.WriteTo(&b)
		return b.Bytes(), err
	}
	_, err := io.CopyBuffer(&b, struct{ io.Reader }{c}, make([]byte, 1+random.IntN(4000)))
	return b.Bytes(), err
}

// goesOn has a flow move at random while both ends talk and end when they like, and checks that each
// has what the other one said: all of it, or an error where a move got no answer.
func goesOn(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(19, seed))
	var open sync.WaitGroup
	entrance, exit, end := newOffloaded(t, &open)

	var said, heard [2][]byte
	var failed [2]error
	var all sync.WaitGroup
	for i, ends := range [][2]*Conn{{entrance, exit}, {exit, entrance}} {
		said[i] = make([]byte, random.IntN(60_000))
		rand.NewChaCha8([32]byte{byte(seed), byte(i)}).Read(said[i])
		mine, theirs := rand.New(rand.NewPCG(seed, uint64(i))), rand.New(rand.NewPCG(seed, uint64(i+2)))
		all.Go(func() { say(ends[0], mine, said[i]) })
		all.Go(func() {
			if heard[i], failed[i] = hear(ends[1], theirs); len(heard[i]) != len(said[i]) {
				ends[1].Reset() // the other one is not to wait
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	lost := false
	moves := make(chan struct{})
	go func() { // awaited below
		defer close(moves)
		for range random.IntN(8) {
			how := agreed
			if random.IntN(4) == 0 {
				how = outcome(random.IntN(4))
			}
			if err := move(ctx, entrance, exit, &open, how); errors.Is(err, errReset) {
				lost = true
				return
			}
		}
	}()
	all.Wait()
	cancel()
	<-moves
	for i := range said {
		whole := failed[i] == nil && bytes.Equal(heard[i], said[i])
		if !whole && (!lost || failed[i] == nil) {
			t.Fatalf("seed %d, direction %d: %d of %d bytes, %v", seed, i, len(heard[i]), len(said[i]), failed[i])
		}
	}
	entrance.Close()
	exit.Close()
	open.Wait() // no connection is left
	end()
}

// newOffloaded opens a flow that has a dedicated connection. end is for after both ends are closed.
func newOffloaded(t *testing.T, open *sync.WaitGroup) (entrance, exit *Conn, end func()) {
	near, far := net.Pipe()
	exitOf := make(chan *Conn, 1)
	over := make(chan struct{})
	cc := serveOver(t, near, far, false, func(c *Conn) {
		exitOf <- c
		<-over
	})
	entrance = openFlow(t, cc)
	exit = <-exitOf
	d1, d2 := newPipes(open)
	exit.Offload(d2)
	entrance.Offload(d1)
	return entrance, exit, func() {
		close(over)
		cc.Close()
	}
}

// openFlow is open without a test's cleanup: the flow is closed by its test.
func openFlow(t *testing.T, to *exits) *Conn {
	t.Helper()
	c, err := Open(t.Context(), to.Conn, request(), false, nil)
	if err == nil {
		err = <-to.accepted
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Each seed is an order of moves, ends and refusals:
//
//	go test -run '^$' -fuzz FuzzAFlowIsWholeHoweverItGoesOnAndEnds -fuzztime 100000x ./tunnel/flow
func FuzzAFlowIsWholeHoweverItGoesOnAndEnds(f *testing.F) {
	for seed := range uint64(400) {
		f.Add(seed)
	}
	f.Fuzz(goesOn)
}

// Whoever took that for a failure would reset the new connection, and the end could be lost in it.
func TestAFlowThatIsClosedWhileItMovesHasMoved(t *testing.T) {
	var open sync.WaitGroup
	entrance, exit, end := newOffloaded(t, &open)
	heard := make(chan error, 1)
	go func() { // awaited below
		_, err := io.Copy(io.Discard, entrance)
		heard <- err
	}()
	go io.Copy(io.Discard, exit) // ends with the exit
	d1, d2 := newPipes(&open)
	err := entrance.Reroute(t.Context(), d1, func() error {
		return exit.Reroute(t.Context(), d2, exit.Close)
	})
	if err != nil {
		t.Errorf("the exit says: %v", err)
	}
	if err := <-heard; err != nil {
		t.Errorf("the entrance does not hear the end: %v", err)
	}
	entrance.Close()
	open.Wait()
	end()
}

// Both ends talk until the flow has moved so often, and for as long as that takes.
func TestAFlowIsWholeOverTwentyMoves(t *testing.T) {
	const moves = 20
	var open, all sync.WaitGroup
	entrance, exit, end := newOffloaded(t, &open)
	stop := make(chan struct{})
	for i, ends := range [][2]*Conn{{entrance, exit}, {exit, entrance}} {
		seed := [32]byte{byte(i)}
		all.Go(func() {
			if err := sayUntil(stop, ends[0], seed); err != nil {
				t.Error(err)
			}
		})
		all.Go(func() {
			if n, err := compare(ends[1], seed); err != nil || n == 0 {
				t.Errorf("direction %d: after %d bytes: %v", i, n, err)
			}
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for i := range moves {
		if err := move(ctx, entrance, exit, &open, agreed); err != nil {
			t.Errorf("move %d: %v", i, err)
			entrance.Reset() // nobody is to wait
			exit.Reset()
			break
		}
	}
	close(stop)
	all.Wait()
	entrance.Close()
	exit.Close()
	open.Wait()
	end()
}

// sayUntil sends random bytes until stop, and then the end.
func sayUntil(stop <-chan struct{}, c *Conn, seed [32]byte) error {
	random, b := rand.NewChaCha8(seed), make([]byte, 777)
	for {
		select {
		case <-stop:
			return c.CloseWrite()
		default:
		}
		random.Read(b)
		if _, err := c.Write(b); err != nil {
			return err
		}
	}
}

// compare reads to the end, and returns how many bytes came that are those of a seed.
func compare(c *Conn, seed [32]byte) (total int, err error) {
	random, got, want := rand.NewChaCha8(seed), make([]byte, 777), make([]byte, 777)
	for {
		n, err := io.ReadFull(c, got)
		random.Read(want[:n])
		switch {
		case !bytes.Equal(got[:n], want[:n]):
			return total, errors.New("other bytes came")
		case err == io.EOF:
			return total, nil
		case err != nil:
			return total, err
		}
		total += n
	}
}
