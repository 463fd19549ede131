package shelf

import (
	"context"
	"sync"

	"ztm/tunnel/answer"
)

// Room keeps which files of one app are on their way to one endpoint. The zero value is ready. It
// may be shared by any number of goroutines.
type Room struct {
	mu     sync.Mutex
	coming map[name]*coming // guarded by mu
}

// name is a file of the app.
type name struct{ user, path string }

// coming is a file that is on its way, for one or more requests.
type coming struct {
	size     int64
	requests int
}

// States of a file: nothing of it is here, and all of it as it is published.
const (
	missing = "missing"
	synced  = "synced"
)

// place takes room for a file of a user that comes, and release gives that back when it is here, or is
// not coming. A size below 0 is that of the file as it is published, which takes none where it is here.
func (s *Shelf) place(ctx context.Context, user, path string, size int64) (release func(), err error) {
	s.Room.mu.Lock() // a file that has just come is among those that are listed, or on its way
	defer s.Room.mu.Unlock()
	list, err := s.listed(ctx, false)
	if err != nil {
		return nil, err
	}
	is := name{user, path}
	for _, f := range list {
		if size < 0 && is == (name{f.User, f.Path}) {
			if f.State == synced {
				return func() {}, nil
			}
			size = f.Size
		}
	}
	size = max(size, 0) // of what is not published nothing comes
	if of := s.Room.coming[is]; of != nil {
		size = max(size, of.size)
	}
	bytes, files := s.Room.used(list, is)
	if bytes+size > s.Bytes || files+1 > s.Files {
		return nil, answer.Errorf(answer.Limit, "the app %s may have %d files of %d MB in the cloud at this endpoint, and has %d of %d MB", s.ID, s.Files, s.Bytes/1e6, files, bytes/1e6)
	}
	s.Room.takeLocked(is, size)
	return func() { s.Room.release(is) }, nil
}

// used returns what all files but one take: those that are here, and those on their way, each once.
// The caller holds mu.
func (r *Room) used(list []File, but name) (bytes int64, files int) {
	for n, c := range r.coming {
		if n != but {
			bytes += c.size
			files++
		}
	}
	for _, f := range list {
		n := name{f.User, f.Path}
		if n != but && r.coming[n] == nil && f.State != missing {
			bytes += f.Size
			files++
		}
	}
	return bytes, files
}

func (r *Room) takeLocked(n name, size int64) {
	if r.coming == nil {
		r.coming = map[name]*coming{}
	}
	c := r.coming[n]
	if c == nil {
		c = &coming{}
		r.coming[n] = c
	}
	c.size = size
	c.requests++
}

func (r *Room) release(n name) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.coming[n]
	if c.requests--; c.requests == 0 {
		delete(r.coming, n)
	}
}
