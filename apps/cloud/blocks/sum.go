package blocks

import (
	"crypto/sha256"
	"errors"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
)

const (
	piece = MinBlock // bytes that one core reads at a time
	cores = 4        // that hash at a time, at most: more streams would have a disk that turns seek all the time
)

// Each calls a function for each block of a file of a size, on all cores at a time, and returns the
// first error, after which no more are begun. buf is the function's until it returns.
func Each(size int64, call func(n int, buf []byte) error) error {
	count := Count(size)
	var (
		next  atomic.Int64
		once  sync.Once
		first error
	)
	work := func() {
		buf := make([]byte, min(piece, size))
		for n := int(next.Add(1)) - 1; n < count; n = int(next.Add(1)) - 1 {
			if err := call(n, buf); err != nil {
				once.Do(func() { first = err })
				next.Store(int64(count))
			}
		}
	}
	var others sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), cores, count) - 1 {
		others.Go(work)
	}
	work()
	others.Wait()
	return first
}

// SumBlock reads block n of a file of a size and returns its hash. buf is what it reads into. A
// file that ends before is an [ErrSize].
func SumBlock(r io.ReaderAt, size int64, n int, buf []byte) (h Hash, err error) {
	at, length := Bounds(size, n)
	sum := sha256.New()
	for length > 0 {
		p := buf[:min(length, int64(len(buf)))]
		if got, err := r.ReadAt(p, at); got < len(p) {
			if errors.Is(err, io.EOF) {
				err = ErrSize
			}
			return h, err
		}
		sum.Write(p)
		at, length = at+int64(len(p)), length-int64(len(p))
	}
	sum.Sum(h[:0])
	return h, nil
}

// Sum reads a file of a size. A file that is longer or shorter by now is an [ErrSize].
func Sum(r io.ReaderAt, size int64) (Content, List, error) {
	list := make(List, Count(size)*HashSize)
	err := Each(size, func(n int, buf []byte) error {
		h, err := SumBlock(r, size, n, buf)
		copy(list[n*HashSize:], h[:])
		return err
	})
	if err != nil {
		return Content{}, nil, err
	}
	if n, err := r.ReadAt(make([]byte, 1), size); n > 0 {
		return Content{}, nil, ErrSize
	} else if !errors.Is(err, io.EOF) {
		return Content{}, nil, err
	}
	return list.Content(size), list, nil
}
