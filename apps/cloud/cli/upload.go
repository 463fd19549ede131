package cli

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"ztm/apps"
	"ztm/apps/cloud"
	"ztm/apps/cloud/state"
	"ztm/apps/progress"
	"ztm/tunnel/splice"
	"ztm/tunnel/unixtime"
)

// The way of a file that is uploaded:
//
//	look at it -> head -> its bytes -> is it as it was? -- yes: "+", and the agent says what became of it
//	                                                   \-- no: "-", and once more, a few times
//
// A file that cannot be read keeps nobody from the others.

// file is one that is uploaded.
type file struct {
	name string // here
	cloud.Upload
}

// sources lists the files of what is uploaded. left are those that cannot be.
func (k *client) sources(src, to string, share []string) (files []file, left []cloud.Result, err error) {
	st, err := os.Stat(src)
	if err != nil {
		return nil, nil, err
	}
	if to == "" {
		abs, err := filepath.Abs(src)
		if err != nil {
			return nil, nil, err
		}
		to = filepath.Base(abs)
	}
	add := func(path, to string, info fs.FileInfo, err error) {
		if err == nil && !utf8.ValidString(to) {
			err = errors.New("its name is not UTF-8, and other systems do not have it: rename it")
		}
		if err != nil {
			left = append(left, refused(path, err))
			return
		}
		files = append(files, newFile(path, to, info, share))
	}
	if !st.IsDir() {
		if !st.Mode().IsRegular() {
			return nil, nil, fmt.Errorf("%s is not a file", src)
		}
		add(src, to, st, nil)
		return files, left, nil
	}
	err = filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			add(path, "", nil, err)
			return nil
		}
		if d.IsDir() {
			return nil
		}
		rel, err := filepath.Rel(src, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && !info.Mode().IsRegular() {
			fmt.Fprintf(k.Stderr(), "ztm: left out, as it is no file: %s\n", apps.Printable(path))
			return nil
		}
		add(path, strings.TrimSuffix(to, "/")+"/"+filepath.ToSlash(rel), info, err)
		return nil
	})
	if err == nil && len(files)+len(left) == 0 {
		err = fmt.Errorf("%s has no files", src)
	}
	return files, left, err
}

// refused is the result of a file that was not sent.
func refused(name string, err error) cloud.Result {
	return cloud.Result{Path: apps.Bytes(name).String(), Error: state.Explain(err)}
}

func newFile(name, to string, st fs.FileInfo, share []string) file {
	return file{name, cloud.Upload{Path: to, Size: st.Size(), Time: unixtime.MillisNear(st.ModTime()), Exec: st.Mode()&0o100 != 0, Share: share}}
}

// sender sends files.
type sender struct {
	*bufio.Writer
	bar  *progress.Bar
	sent int            // files that the agent says something about
	left []cloud.Result // files that were not sent, and why

	flushed atomic.Bool // nothing is left but the half-close
}

// all sends all files. The fields, but for flushed, are the caller's again when it returns.
func (s *sender) all(conn net.Conn, files []file) error {
	now := progress.State{Step: "uploading", Of: len(files)}
	for _, f := range files {
		now.Total += f.Size
	}
	for _, f := range files {
		now.Name = f.Path
		before := now.Done
		why, err := s.one(f, func(n int) {
			now.Done += int64(n)
			s.bar.Show(now, time.Now())
		})
		if err != nil {
			conn.Close()
			return err
		}
		if why != nil {
			s.left = append(s.left, refused(f.name, why))
		} else {
			s.sent++
		}
		now.Done = before + f.Size // it may have been sent more than once, or have another size by now
		now.Files++
	}
	if err := s.Flush(); err != nil {
		return err
	}
	s.flushed.Store(true)
	return splice.CloseWrite(conn)
}

// readings is how often a file that changes meanwhile is sent.
const readings = 3

// one sends a file until it was one state of it. why says that it was not; after err nothing more can
// be sent.
func (s *sender) one(f file, moved func(int)) (why, err error) {
	in, err := os.Open(f.name)
	if err != nil {
		return err, nil
	}
	defer in.Close()
	for range readings {
		before, err := in.Stat()
		if err != nil {
			return err, nil
		}
		f = file{f.name, newFile(f.name, f.Path, before, f.Share).Upload}
		content := &padded{in: in}
		if err := s.once(f, content, moved); err != nil {
			return nil, err
		}
		after, err := in.Stat()
		if err == nil && content.err == nil && after.Size() == before.Size() && after.ModTime().Equal(before.ModTime()) {
			return nil, s.WriteByte(cloud.Whole)
		}
		if err := s.WriteByte(cloud.Torn); err != nil {
			return nil, err
		}
		if content.err != nil && content.err != io.EOF {
			return content.err, nil
		}
		if _, err := in.Seek(0, io.SeekStart); err != nil {
			return err, nil
		}
	}
	return errors.New("it is changing; try again when it is complete"), nil
}

// once sends a file with a content.
func (s *sender) once(f file, in io.Reader, moved func(int)) error {
	head, err := json.Marshal(f.Upload)
	if err != nil {
		return err
	}
	s.Write(append(head, '\n'))
	_, err = io.Copy(s, meter{io.LimitReader(in, f.Size), moved})
	return err
}

// padded is a file that goes on with zeros where it has an end, or cannot be read.
type padded struct {
	in  io.Reader
	err error // why it goes on
}

func (p *padded) Read(b []byte) (n int, err error) {
	if p.err == nil {
		if n, p.err = p.in.Read(b); n > 0 {
			return n, nil
		}
	}
	clear(b)
	return len(b), nil
}

type meter struct {
	io.Reader
	moved func(int)
}

func (m meter) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	if n > 0 {
		m.moved(n)
	}
	return n, err
}

// readResults reads what became of files, to the end.
func readResults(r io.Reader, files int) (results []cloud.Result, err error) {
	d := json.NewDecoder(r)
	for {
		var one cloud.Result
		err := d.Decode(&one)
		if err == io.EOF {
			return results, nil
		}
		if err == nil && len(results) == files {
			err = errors.New("it speaks of more than there are")
		}
		if err != nil {
			return results, fmt.Errorf("the agent ended the upload after %d files: %w", len(results), err)
		}
		results = append(results, one)
	}
}
