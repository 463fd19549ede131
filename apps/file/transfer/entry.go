package transfer

import (
	"fmt"
	"io/fs"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"ztm/apps"
	"ztm/apps/rooted"
)

// The types of entries.
const (
	typeFile = "f"
	typeDir  = "d"
	typeLeft = "x" // left out, for the reason that Why gives
)

// entry announces a file or a directory.
type entry struct {
	Depth  int        `json:"d,omitempty"` // of its directory below what was asked for
	Name   apps.Bytes `json:"n"`
	Type   string     `json:"t"`
	Size   int64      `json:"s,omitempty"`
	Mode   uint32     `json:"m,omitempty"` // permissions
	Time   int64      `json:"c,omitempty"` // of the last change, nanoseconds since 1970
	Sparse bool       `json:"h,omitempty"` // has holes
	Why    string     `json:"w,omitempty"`
}

// check refuses what no honest sender announces.
func (e *entry) check() (rooted.Name, error) {
	n, err := rooted.LocalName(string(e.Name))
	switch {
	case err != nil:
		return n, err
	case e.Depth < 0 || e.Size < 0 || e.Size > MaxFile || e.Mode&^uint32(fs.ModePerm) != 0:
		return n, fmt.Errorf("%w: %v makes no sense", errProtocol, n)
	case e.Type != typeFile && e.Type != typeDir && e.Type != typeLeft:
		return n, fmt.Errorf("%w: %v is of type %.10q", errProtocol, n, e.Type)
	}
	return n, nil
}

func (e *entry) changed() time.Time { return time.Unix(0, e.Time) }

// large reports whether the content waits for an answer of the receiver.
func (e *entry) large(o Options) bool {
	return e.Type == typeFile && (o.Update || e.Size > block)
}

// Failure is a file that was not copied.
type Failure struct {
	Path apps.Bytes `json:"path"` // below what was asked for, which is ""
	Why  string     `json:"why"`
}

// maxFailures is how many failures a report names.
const maxFailures = 100

// Report is what came of a copy, as the receiver has it.
type Report struct {
	Files    int64     `json:"files"`             // complete, verified, under their names
	Bytes    int64     `json:"bytes"`             // of these
	Same     int64     `json:"same,omitempty"`    // of the files: were there before
	Resumed  int64     `json:"resumed,omitempty"` // of the bytes: were there before
	Left     []Failure `json:"left,omitempty"`    // links, devices: never copied
	Failures []Failure `json:"failures,omitempty"`
	More     int64     `json:"more,omitempty"` // failures and what was left out that do not stand here
}

func (r *Report) add(list *[]Failure, path string, why string) {
	if len(*list) >= maxFailures {
		r.More++
		return
	}
	*list = append(*list, Failure{apps.Bytes(path), text(why)})
}

// text makes a text of another side short and valid.
func text(s string) string {
	s = s[:min(len(s), maxText/2)]
	for len(s) > 0 && !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return apps.Printable(s)
}

// The steps of a copy, for a person who waits.
const (
	Starting = iota
	Comparing
	Copying
	Finishing
)

// Meter counts while a copy runs. It may be read at any time.
type Meter struct {
	Step         atomic.Int32
	Files, Bytes atomic.Int64 // done
	TotalFiles   atomic.Int64 // 0 where it is not known
	TotalBytes   atomic.Int64
}

// Options are those of both sides. The zero value is good.
type Options struct {
	Meter       *Meter        // nil counts nothing
	IdleTimeout time.Duration // 0 is [IdleTimeout]

	Recursive bool // sender: directories may be sent
	Update    bool // both: leave out files that have the same size and time at the receiver
	Keep      bool // receiver: never replace a file
	Number    bool // receiver: a name that is taken at the top gets a number
	Sole      bool // receiver: what earlier copies left below the target goes, once this one begins a file anew
	Hidden    bool // receiver: names at the top may begin with a dot

	// Admit, of a receiver, decides about each file by its path as the sender has it, and AdmitDir
	// about each directory: what it does not admit is left out. nil admits all.
	Admit    func(path string, size int64) error
	AdmitDir func(path string) error

	volatile bool // receiver, of tests: nothing waits for the disk
}

func (o *Options) meter() *Meter {
	if o.Meter == nil {
		o.Meter = &Meter{}
	}
	return o.Meter
}
