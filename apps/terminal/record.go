package terminal

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"ztm/apps"
	"ztm/apps/process"
	"ztm/tunnel/answer"
)

// recording writes a session to a file as asciicast v2: a header, then one event a line, [seconds,
// code, data]. Only output is recorded: input has passwords in it.
type recording struct {
	began time.Time

	mu   sync.Mutex
	file *os.File
	part []byte // a character of which the end has not come yet
	left int    // bytes of output that are still recorded; -1 is all
}

// maxPiped is how much is recorded of a session without a terminal, which is data rather than
// something to look at.
const maxPiped = 1 << 20

// prepare makes the directory for recordings and checks that they can be written there.
func prepare(dir string) error {
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		var f *os.File
		if f, err = os.CreateTemp(dir, ".try-*"); err == nil {
			f.Close()
			os.Remove(f.Name())
		}
	}
	if err != nil {
		return answer.Errorf(answer.BadRequest, "cannot record in %v: %v", apps.Bytes(dir), process.Cause(err))
	}
	return nil
}

// record begins the recording of a session, in a file that says when, who and which session.
func record(dir string, e *process.Entry, st start, p process.Program) (*recording, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	user := strings.Map(func(r rune) rune {
		if r < '-' || r == '/' || r > 'z' || r == '\\' || r == ':' {
			return '_'
		}
		return r
	}, e.Peer.User)
	path := filepath.Join(dir, fmt.Sprintf("%s-%s-%s.cast", e.Since.UTC().Format("20060102T150405Z"), user, e.ID))
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	r := &recording{began: e.Since, file: f, left: -1}
	size := process.Size{Cols: 80, Rows: 24}
	if st.TTY != nil {
		size = *st.TTY
	} else {
		r.left = maxPiped
	}
	header := castHeader{Version: 2, Width: int(size.Cols), Height: int(size.Rows), Timestamp: e.Since.Unix(),
		Title: fmt.Sprintf("%s from %s as %s", e.Peer.User, e.Peer.ID, p.Account.Name),
		Env:   map[string]string{"SHELL": p.Account.Shell}}
	for _, kv := range st.Env {
		if term, ok := strings.CutPrefix(string(kv), "TERM="); ok {
			header.Env["TERM"] = term
		}
	}
	if len(st.Command) > 0 {
		words := make([]string, len(st.Command))
		for i, w := range st.Command {
			words[i] = w.String()
		}
		header.Command = strings.Join(words, " ")
	}
	if err := r.line(header); err != nil {
		f.Close()
		return nil, err
	}
	return r, nil
}

type castHeader struct {
	Version   int               `json:"version"`
	Width     int               `json:"width"`
	Height    int               `json:"height"`
	Timestamp int64             `json:"timestamp"`
	Command   string            `json:"command,omitempty"`
	Title     string            `json:"title"`
	Env       map[string]string `json:"env"`
}

func (r *recording) line(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = r.file.Write(append(b, '\n'))
	return err
}

func (r *recording) event(code, data string) error {
	if r.file == nil {
		return nil
	}
	return r.line([]any{float64(time.Since(r.began).Microseconds()) / 1e6, code, data})
}

// Output implements [process.Recorder]. The beginning of a character at the end of p is kept until
// the rest of it comes.
func (r *recording) Output(p []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left == 0 {
		return nil
	}
	if r.left > 0 {
		p = p[:min(len(p), r.left)]
		r.left -= len(p)
	}
	whole, part := split(append(r.part, p...))
	r.part = append([]byte(nil), part...)
	if len(whole) > 0 {
		if err := r.event("o", string(whole)); err != nil {
			return err
		}
	}
	if r.left == 0 {
		return r.event("m", fmt.Sprintf("output beyond %d bytes is not recorded", maxPiped))
	}
	return nil
}

// split separates the beginning of a character from the end of p.
func split(p []byte) (whole, part []byte) {
	for i := len(p) - 1; i >= 0 && i >= len(p)-utf8.UTFMax; i-- {
		if !utf8.RuneStart(p[i]) {
			continue
		}
		if !utf8.FullRune(p[i:]) {
			return p[:i], p[i:]
		}
		break
	}
	return p, nil
}

// Resize implements [process.Recorder].
func (r *recording) Resize(s process.Size) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.event("r", fmt.Sprintf("%dx%d", s.Cols, s.Rows))
}

// Close implements [process.Recorder].
func (r *recording) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file == nil {
		return nil
	}
	if len(r.part) > 0 {
		r.event("o", string(r.part)) // the recording ends in any case
	}
	err := r.file.Close()
	r.file = nil
	return err
}
