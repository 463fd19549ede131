package shelf

import (
	"context"
	"sync"

	"ztm/tunnel/answer"
)

// Room counts the files of one app that are on their way to one endpoint. The zero value is ready. It
// may be shared by any number of goroutines.
type Room struct {
	mu    sync.Mutex
	bytes int64 // guarded by mu
	files int   // guarded by mu
}

// missing is the state of a file of which nothing is here.
const missing = "missing"

// place takes room for a file of a user that comes, and release gives that back when it is here, or is
// not coming. A size below 0 is that of the file as it is published.
func (s *Shelf) place(ctx context.Context, user, path string, size int64) (release func(), err error) {
	s.Room.mu.Lock() // a file that has just come is among those that are listed, or on its way
	defer s.Room.mu.Unlock()
	list, err := s.listed(ctx, false)
	if err != nil {
		return nil, err
	}
	bytes, files := s.Room.bytes, s.Room.files
	for _, f := range list {
		switch {
		case f.User == user && f.Path == path:
			if size < 0 {
				size = f.Size
			}
		case f.State != missing:
			bytes += f.Size
			files++
		}
	}
	size = max(size, 0) // of what is not published nothing comes
	if bytes+size > s.Bytes || files+1 > s.Files {
		return nil, answer.Errorf(answer.Limit, "the app %s may have %d files of %d MB in the cloud at this endpoint, and has %d of %d MB", s.ID, s.Files, s.Bytes>>20, files, bytes>>20)
	}
	s.Room.bytes += size
	s.Room.files++
	return func() {
		s.Room.mu.Lock()
		defer s.Room.mu.Unlock()
		s.Room.bytes -= size
		s.Room.files--
	}, nil
}
