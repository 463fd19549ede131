package transfer

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"sync"
)

// castagnoli is the polynomial that processors have an instruction for.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// zeroHash returns the hash of a block of zeros.
var zeroHash = sync.OnceValue(func() [hashSize]byte { return sha256.Sum256(make([]byte, block)) })

// content sends what is in a file. An error is one of the flow: what is wrong with the file goes to
// the receiver.
func (s *sender) content(it item) error {
	if it.file == nil {
		return nil
	}
	s.meter.Step.Store(Copying)
	c := &reading{sender: s, item: it}
	defer s.pass(it.id)
	if it.large(s.o) {
		r, err := s.await(it.id)
		if err != nil {
			return err
		}
		if r.skip {
			s.done(it.Size)
			return nil
		}
		if c.at, err = c.agree(r); err != nil {
			return s.fail(err)
		}
		if err := s.send(kindFrom, binary.BigEndian.AppendUint64(nil, uint64(c.at))); err != nil {
			return err
		}
		s.meter.Bytes.Add(c.at)
	}
	if err := c.run(); err != nil {
		return err
	}
	s.meter.Files.Add(1)
	return nil
}

func (s *sender) done(size int64) {
	s.meter.Files.Add(1)
	s.meter.Bytes.Add(size)
}

// fail tells the receiver that a file will not be complete.
func (s *sender) fail(err error) error { return s.send(kindFailed, []byte(text(Reason(err)))) }

// reading is a file that is being sent.
type reading struct {
	*sender
	item
	crc  uint32 // of the block so far
	at   int64  // where in the file
	data int64  // up to where there is data, from at on; below at: not known
}

// run sends blocks up to the end of the file.
func (c *reading) run() error {
	if most := header + int(min(chunk, c.Size-c.at)); len(c.frame) < most {
		c.frame = make([]byte, most)
	}
	for c.at < c.Size {
		if c.refused(c.id) {
			return c.fail(errors.New("refused"))
		}
		skipped, err := c.zeros()
		if err != nil || skipped {
			if err != nil {
				return c.settle(err)
			}
			continue
		}
		if err := c.block(); err != nil {
			return c.settle(err)
		}
	}
	if c.Size == 0 { // an empty file has a sum, too: it says that the file is complete
		c.crc = 0
		return c.settle(c.sum())
	}
	return nil
}

// flowError is an error of the flow, where one of the file was possible.
type flowError struct{ error }

// settle tells an error of the file to the receiver, and returns one of the flow.
func (c *reading) settle(err error) error {
	var flow flowError
	if err == nil || errors.As(err, &flow) {
		return err
	}
	return c.fail(err)
}

func flown(err error) error {
	if err != nil {
		return flowError{err}
	}
	return nil
}

// zeros sends the blocks from here on that are holes of the file, and reports whether there were
// any.
func (c *reading) zeros() (bool, error) {
	if c.Sparse && c.at >= c.data {
		c.look()
	}
	n := min(c.data, c.Size) - c.at
	if c.data < c.Size {
		n -= n % block
	}
	if n <= 0 {
		return false, nil
	}
	if err := c.unchanged(); err != nil {
		return false, err
	}
	c.at += n
	c.meter.Bytes.Add(n)
	return true, flown(c.send(kindZeros, binary.BigEndian.AppendUint64(nil, uint64(n))))
}

// block sends the block that begins here.
func (c *reading) block() error {
	c.crc = 0
	end := min(c.at-c.at%block+block, c.Size)
	for c.at < end {
		if c.Sparse && c.at < c.data {
			if err := c.hole(min(c.data, end) - c.at); err != nil {
				return err
			}
			continue
		}
		frame := c.frame[:header+min(chunk, end-c.at)]
		p := frame[header:]
		if n, err := c.file.ReadAt(p, c.at); n < len(p) {
			if err == nil || errors.Is(err, io.EOF) {
				err = errChanging
			}
			return err
		}
		c.crc = crc32.Update(c.crc, castagnoli, p)
		putHead(frame, kindData, len(p))
		if err := c.sendWhole(frame); err != nil {
			return flown(err)
		}
		c.at += int64(len(p))
		c.meter.Bytes.Add(int64(len(p)))
		if c.Sparse && c.at < end {
			c.look()
		}
	}
	return c.sum()
}

// look finds out where the next data is.
func (c *reading) look() {
	at, err := dataAfter(c.file, c.at)
	switch {
	case err == nil:
		c.data = max(at, c.at)
	case errors.Is(err, io.EOF):
		c.data = c.Size
	default:
		c.Sparse = false // the file system does not say: all is data
	}
}

// hole sends zeros within a block.
func (c *reading) hole(n int64) error {
	c.at += n
	c.meter.Bytes.Add(n)
	zero := make([]byte, min(n, small))
	for left := n; left > 0; left -= int64(len(zero)) {
		zero = zero[:min(left, int64(len(zero)))]
		c.crc = crc32.Update(c.crc, castagnoli, zero)
	}
	return flown(c.send(kindHole, binary.BigEndian.AppendUint32(nil, uint32(n))))
}

var errChanging = errors.New("it changes while it is read: try again")

// unchanged checks that the file is as it was announced.
func (c *reading) unchanged() error {
	now, err := c.file.Stat()
	if err == nil && (now.Size() != c.seen.Size() || !now.ModTime().Equal(c.seen.ModTime())) {
		err = errChanging
	}
	return err
}

// sum ends a block. The last one is not ended if the file has changed: then the receiver has no
// complete file.
func (c *reading) sum() error {
	if c.at == c.Size {
		if err := c.unchanged(); err != nil {
			return err
		}
	}
	return flown(c.send(kindSum, binary.BigEndian.AppendUint32(nil, c.crc)))
}

// agree returns up to where what the receiver has is the same as the file: a whole number of
// blocks, or all.
func (c *reading) agree(r *reply) (int64, error) {
	c.meter.Step.Store(Comparing)
	defer c.meter.Step.Store(Copying)
	groups := int64(len(r.hashes) / hashSize)
	size := r.group * block
	if groups > 0 && (groups-1)*size >= c.Size {
		return 0, nil
	}
	at := int64(0)
	for i := range groups {
		hash, err := hashOf(c.file, at, min(at+size, c.Size))
		if err != nil {
			return 0, err
		}
		if [hashSize]byte(r.hashes[i*hashSize:]) != hash {
			break
		}
		at = min(at+size, c.Size)
	}
	if r.whole && at < c.Size {
		return 0, nil
	}
	return at, nil
}

// hashOf returns the hash of a part of a file: over the hashes of its blocks, so that holes cost
// nothing.
func hashOf(f *os.File, from, to int64) (all [hashSize]byte, err error) {
	hashes := sha256.New()
	for at := from; at < to; at += block {
		if next, err := dataAfter(f, at); (err == nil && next >= at+block || errors.Is(err, io.EOF)) && at+block <= to {
			zeros := zeroHash()
			hashes.Write(zeros[:])
			continue
		}
		h := sha256.New()
		want := min(block, to-at)
		if n, err := io.Copy(h, io.NewSectionReader(f, at, want)); err != nil || n < want {
			return all, errors.Join(err, fmt.Errorf("%w at %d", io.ErrUnexpectedEOF, at+n))
		}
		hashes.Write(h.Sum(nil))
	}
	return [hashSize]byte(hashes.Sum(nil)), nil
}
