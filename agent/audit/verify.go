package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"ztm/tunnel/identity"
)

// Report is what [Verify] has found.
type Report struct {
	Endpoint identity.ID `json:"endpoint"`
	Lines    int         `json:"lines"`
	Runs     int         `json:"runs"`     // of the agent, that begin in the files
	Signed   int         `json:"signed"`   // lines that a checkpoint stands behind
	First    string      `json:"first"`    // time of the first line
	Last     string      `json:"last"`     // time of the last one
	Problems []string    `json:"problems"` // a hundred at most
	Found    int         `json:"found"`    // how many problems there are
}

const (
	maxLine     = 64 << 10 // bytes of a line; ours have a few hundred
	maxProblems = 100
)

// verifier goes along lines.
type verifier struct {
	Report
	where string
	seq   uint64 // of the line before; 0 before the first
	hash  string // of the line before
	fresh int    // lines since the last checkpoint
}

// Verify reads files of the log of one endpoint, the oldest first, and checks that each line is the
// next one of the line before, and that checkpoints are signed by the endpoint. An error is one of
// reading.
func Verify(names []string, open func(string) (io.ReadCloser, error)) (Report, error) {
	v := &verifier{Report: Report{Problems: []string{}}}
	for _, name := range names {
		f, err := open(name)
		if err != nil {
			return v.Report, err
		}
		err = v.file(name, f)
		f.Close()
		if err != nil {
			return v.Report, err
		}
	}
	return v.Report, nil
}

func (v *verifier) file(name string, r io.Reader) error {
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxLine)
	for n := 1; s.Scan(); n++ {
		v.where = fmt.Sprintf("%s, line %d", name, n)
		v.text(s.Bytes())
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (v *verifier) problem(format string, args ...any) {
	if v.Found++; len(v.Problems) < maxProblems {
		v.Problems = append(v.Problems, v.where+": "+fmt.Sprintf(format, args...))
	}
}

// text takes one line of a file.
func (v *verifier) text(b []byte) {
	var c Checkpoint
	if json.Unmarshal(b, &c) == nil && c.Seq > 0 {
		v.checkpoint(c)
		return
	}
	var l Line
	if err := json.Unmarshal(b, &l); err != nil || l.V != Version || l.Seq == 0 || !bytes.Equal(l.Encode(), b) {
		v.problem("it is no line of version %d", Version)
		return
	}
	v.line(&l, hashOf(b))
}

// line takes one line of the log.
func (v *verifier) line(l *Line, hash string) {
	switch {
	case l.Seq == 1 && l.Prev == "":
		v.Runs++
		v.fresh = 0
	case v.seq == 0: // the files before are not here
	case l.Seq != v.seq+1:
		v.problem("it has number %d, the line before has %d", l.Seq, v.seq)
	case l.Prev != v.hash:
		v.problem("the line before is not the one that was there when it was written")
	}
	if v.Lines == 0 {
		v.Endpoint, v.First = l.EndpointID, l.Time
	} else if v.Endpoint != l.EndpointID {
		v.problem("it is of endpoint %s", l.EndpointID)
	}
	v.seq, v.hash, v.Last = l.Seq, hash, l.Time
	v.Lines++
	v.fresh++
}

// checkpoint takes what is signed of the lines before.
func (v *verifier) checkpoint(c Checkpoint) {
	if err := c.check(); err != nil {
		v.problem("the checkpoint is forged: %v", err)
		return
	}
	if v.seq == 0 {
		return // its line is in a file that is not here
	}
	if c.EndpointID != v.Endpoint || c.Seq != v.seq || c.Hash != v.hash {
		v.problem("the checkpoint is of line %d, and of another content than is here", c.Seq)
		return
	}
	v.Signed += v.fresh
	v.fresh = 0
}
