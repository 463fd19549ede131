package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"ztm/apps/rooted"
)

// Watcher tells that something below a directory may have changed. It says no more: what has changed
// is seen by a scan. C gets a value after a change; changes that follow before it is taken are one.
type Watcher struct {
	C    chan struct{} // capacity 1; never closed
	file *os.File
	ends sync.WaitGroup
}

// ErrNoWatch says that the system does not tell of changes, or not of so many directories: the clock
// has to do.
var ErrNoWatch = errors.New("changes are not told of here")

const watched = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_CLOSE_WRITE | unix.IN_MODIFY | unix.IN_ATTRIB |
	unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR

// Watch begins to watch a root and all directories below it, but for those that are left out. It ends
// with ctx, or by Close. A directory that is made later is not watched by itself: after each change
// the caller watches anew.
func Watch(ctx context.Context, root *rooted.Dir, leave Patterns) (*Watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrNoWatch, err)
	}
	w := &Watcher{C: make(chan struct{}, 1), file: os.NewFile(uintptr(fd), "inotify")}
	err = add(fd, root)
	if err == nil {
		err = root.Walk(func(in *rooted.Dir, n rooted.Name, p rooted.Path, info fs.FileInfo, err error) error {
			if err != nil || !info.IsDir() {
				return nil
			}
			if leave.match(string(p.Bytes()), true) {
				return rooted.SkipDir
			}
			sub, err := in.Sub(n)
			if err != nil {
				return nil // it has gone, or is no directory any longer
			}
			defer sub.Close()
			return add(fd, sub)
		})
	}
	if err != nil {
		w.file.Close()
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { w.file.Close() })
	w.ends.Go(func() {
		defer stop()
		w.read()
	})
	return w, nil
}

// add watches one directory by its handle, so that no name is followed.
func add(fd int, d *rooted.Dir) error {
	f, err := d.Handle()
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = unix.InotifyAddWatch(fd, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), watched)
	if errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("%w: more directories than fs.inotify.max_user_watches", ErrNoWatch)
	}
	if err != nil {
		return fmt.Errorf("%w: %v", ErrNoWatch, err)
	}
	return nil
}

// read passes changes on until the watcher is closed.
func (w *Watcher) read() {
	buf := make([]byte, 64<<10)
	for {
		if _, err := w.file.Read(buf); err != nil {
			return
		}
		select {
		case w.C <- struct{}{}:
		default:
		}
	}
}

// Close ends it.
func (w *Watcher) Close() {
	w.file.Close()
	w.ends.Wait()
}
