package directory_test

import (
	"path/filepath"
	"testing"
	"time"

	"ztm/hub/directory"
	"ztm/hub/directory/directorytest"
	"ztm/store"
)

// single is a mesh of one hub.
type single struct {
	t      *testing.T
	path   string
	limits directory.Limits
	now    func() time.Time
	local  *directory.Local
	stop   func()
}

func (s *single) start() {
	db, err := store.Open(s.path, nil, store.Options{})
	if err != nil {
		s.t.Fatal(err)
	}
	if s.local, err = directory.Open(db, s.limits, s.now); err != nil {
		s.t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // awaited by stop
		defer close(stopped)
		s.local.Run(stop)
	}()
	s.stop = func() {
		close(stop)
		<-stopped
		db.Close()
	}
}

func TestTheDirectoryOfASingleHub(t *testing.T) {
	directorytest.Run(t, func(t *testing.T, l directory.Limits, now func() time.Time) directorytest.Mesh {
		s := &single{t: t, path: filepath.Join(t.TempDir(), "hub.db"), limits: l, now: now}
		s.start()
		t.Cleanup(func() { s.stop() })
		return directorytest.Mesh{
			Hub:     func() directory.Directory { return s.local },
			Restart: func() { s.stop(); s.start() },
		}
	})
}
