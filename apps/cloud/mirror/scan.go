package mirror

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"ztm/apps/rooted"
)

// Stat is what can be seen of a file from outside. Two that are equal are taken for the same content.
type Stat struct {
	Size    int64  `json:"s"`
	Changed int64  `json:"m"`           // time of change, Unix nanoseconds; anybody can set it
	Status  int64  `json:"c,omitempty"` // time of the last change of the inode, where there is one; nobody can
	ID      uint64 `json:"i,omitempty"` // inode, where there is one
	Exec    bool   `json:"x,omitempty"`
	Dir     bool   `json:"d,omitempty"` // a directory, of which nothing else counts
}

func statOf(info fs.FileInfo) Stat {
	if info.IsDir() {
		return Stat{Dir: true}
	}
	s := Stat{Size: info.Size(), Changed: info.ModTime().UnixNano(), Exec: info.Mode()&0o100 != 0}
	s.Status, s.ID = inode(info)
	return s
}

// Found is what a scan finds.
type Found struct {
	Files   map[string]Stat   // by path; empty directories among them
	Full    map[string]bool   // directories with something in them
	Skipped map[string]string // what cannot be published, and why
}

// Gone reports whether the scan shows that a path is not there. Below what could not be read it shows
// nothing.
func (f Found) Gone(path string) bool {
	if _, here := f.Files[path]; here {
		return false
	}
	for at := path; ; at = at[:strings.LastIndexByte(at, '/')] {
		if _, hidden := f.Skipped[at]; hidden {
			return false
		}
		if !strings.Contains(at, "/") {
			break
		}
	}
	_, hidden := f.Skipped[""]
	return !hidden
}

// maxFiles is how many files a mirror may have.
const maxFiles = 100_000

// Scan looks at all files below a root, and reads none of them. at is where the root is in the user's tree:
// whether a name can be published is a matter of its whole path.
func Scan(root *rooted.Dir, at string, leave Patterns) (Found, error) {
	f := Found{Files: map[string]Stat{}, Full: map[string]bool{}, Skipped: map[string]string{}}
	err := root.Walk(func(in *rooted.Dir, n rooted.Name, p rooted.Path, info fs.FileInfo, err error) error {
		path := string(p.Bytes())
		isDir := err == nil && info.IsDir()
		switch {
		case leave.match(path, isDir) && isDir:
			return rooted.SkipDir
		case leave.match(path, isDir):
			return nil
		case err != nil:
			f.Skipped[path] = "it cannot be read"
			return nil
		case isDir && !empty(in, n):
			f.Full[path] = true
			return nil
		case isDir && leave.match(path, false):
			return nil // no pattern includes it
		}
		if _, err := rooted.ParsePath(strings.TrimPrefix(at+"/"+path, "/")); err != nil {
			f.Skipped[path] = "its name cannot be published: other systems do not have it"
			return nil
		}
		if !isDir && !info.Mode().IsRegular() {
			f.Skipped[path] = "it is no file"
			return nil
		}
		if f.Files[path] = statOf(info); len(f.Files) > maxFiles {
			return fmt.Errorf("more than %d files", maxFiles)
		}
		return nil
	})
	return f, err
}

// StandStill is how long a file has to be as it is before it is taken for changed: somebody may still
// be writing it.
const StandStill = 10 * time.Second

// Settler knows since when files are as they are. The zero value knows none. It belongs to one
// goroutine.
type Settler struct {
	Still time.Duration // 0 is [StandStill]

	seen map[string]sighting
}

type sighting struct {
	Stat
	here  bool
	since time.Time
}

// Settled takes the files that look otherwise than when they were last in step, those that have gone
// among them (here is false), and reports which of them have stood still. wait is when to look again
// for the others; 0 if there are none.
func (s *Settler) Settled(changed map[string]Stat, gone []string, now time.Time) (still map[string]bool, wait time.Duration) {
	stand := cmp.Or(s.Still, StandStill)
	next := map[string]sighting{}
	still = map[string]bool{}
	look := func(path string, is sighting) {
		is.since = now
		if was, ok := s.seen[path]; ok && was.Stat == is.Stat && was.here == is.here && !was.since.After(now) {
			is.since = was.since
		}
		next[path] = is
		if left := stand - now.Sub(is.since); left <= 0 {
			still[path] = true
		} else if wait == 0 || left > wait {
			wait = left
		}
	}
	for path, st := range changed {
		look(path, sighting{Stat: st, here: true})
	}
	for _, path := range gone {
		look(path, sighting{})
	}
	s.seen = next
	return still, wait
}

// Folds reports whether a directory takes names for one that differ in case alone. It makes nothing:
// the mark is asked for by another name. Without a mark it does not know.
func Folds(root *rooted.Dir) (bool, error) {
	return root.Folds(markName)
}

// ErrGone says that the directory of a mirror is not the one that it was: its disk is not mounted, or
// somebody has removed it. Nothing of it is taken for deleted.
var ErrGone = errors.New("the directory of the mirror is not there, or is another one: is its disk mounted?")

// Mark is by what a mirror knows its directory again.
type Mark struct {
	ID     string `json:"id"`
	Device uint64 `json:"device,omitempty"`
}

var markName = rooted.Own("mirror")

// SetMark makes a directory that of a mirror. It is called once, when a mirror is made.
func SetMark(root *rooted.Dir, id string) (Mark, error) {
	self, err := root.Self()
	if err != nil {
		return Mark{}, err
	}
	w, err := root.Create(markName, "", true)
	if err != nil {
		return Mark{}, err
	}
	defer w.Discard()
	if _, err := w.WriteString(id + "\nThis directory is a mirror. Without this file nothing of it is published or removed.\n"); err != nil {
		return Mark{}, err
	}
	return Mark{id, deviceOf(self)}, w.Commit(0o600, time.Time{}, true)
}

// Check returns nil if a directory has the mark.
func (m Mark) Check(root *rooted.Dir) error {
	self, err := root.Self()
	if err != nil {
		return err
	}
	if deviceOf(self) != m.Device {
		return ErrGone
	}
	f, err := root.Open(markName)
	if err != nil {
		return ErrGone
	}
	defer f.Close()
	b := make([]byte, 256)
	n, _ := f.Read(b) // what is not read does not match
	if id, _, _ := strings.Cut(string(b[:n]), "\n"); id != m.ID || m.ID == "" {
		return ErrGone
	}
	return nil
}
