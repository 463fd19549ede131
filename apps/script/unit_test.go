package script

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ztm/apps/process"
)

// nobody is an account that some tests give files to.
func nobody(t *testing.T) *process.Account {
	t.Helper()
	a, err := process.Lookup("")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestShebang(t *testing.T) {
	tests := []struct {
		name, source string
		program      string
		args         []string
	}{
		{"none", "echo\n#!/bin/sh", "", nil},
		{"a path", "#!/bin/sh\n", "/bin/sh", []string{}},
		{"arguments, spaces, CRLF", "#! /usr/bin/perl  -w -T \r\n", "/usr/bin/perl", []string{"-w", "-T"}},
		{"env", "#!/usr/bin/env python3", "python3", []string{}},
		{"env with options and variables", "#!/usr/bin/env -S -i A=b bash -e\n", "bash", []string{"-e"}},
		{"env of nothing", "#!/usr/bin/env\n", "", nil},
		{"empty", "#!\nx", "", nil},
		{"a byte order mark", "\ufeff#!/bin/sh\n", "/bin/sh", []string{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			program, args := shebang([]byte(tt.source))
			if program != tt.program || cmp.Diff(tt.args, args) != "" {
				t.Errorf("shebang = %q, %q; want %q, %q", program, args, tt.program, tt.args)
			}
		})
	}
}

func TestEndingOfAFileNamesTheInterpreter(t *testing.T) {
	for file, want := range map[string]string{"a.py": "python3", "a.js": "js", "A.MJS": "js", "a.ps1": "powershell", "a": "sh", "a.txt": "sh", "": "sh"} {
		if got := byEnding(file); got != want {
			t.Errorf("byEnding(%q) = %q, want %q", file, got, want)
		}
	}
}

// FuzzShebang: a first line names a program that stands in it, or none.
func FuzzShebang(f *testing.F) {
	f.Add([]byte("#!/usr/bin/env -S A=b x -y\nz"))
	f.Add([]byte("#!"))
	f.Fuzz(func(t *testing.T, source []byte) {
		program, args := shebang(source)
		line, _, _ := bytes.Cut(source, []byte("\n"))
		for _, word := range append(args, program) {
			if !bytes.Contains(line, []byte(word)) && strings.ToValidUTF8(word, "") == word {
				t.Errorf("%q is not in %q", word, line)
			}
			if word != "" && len(strings.Fields(word)) != 1 {
				t.Errorf("%q is no word", word)
			}
		}
	})
}

// FuzzLines: lines of output are whole, each behind its prefix, however they were cut into writes.
func FuzzLines(f *testing.F) {
	f.Add("one\ntwo", 2)
	f.Add("\n\nx", 1)
	f.Fuzz(func(t *testing.T, text string, size int) {
		var out bytes.Buffer
		l := &lines{w: &out, prefix: "ep | ", mu: &sync.Mutex{}}
		size = 1 + size&0xff
		for rest := text; rest != ""; {
			n := min(size, len(rest))
			if _, err := l.Write([]byte(rest[:n])); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		l.flush()
		if len(text) >= maxLine {
			return
		}
		want := ""
		for line := range strings.Lines(text) {
			want += "ep | " + strings.TrimSuffix(line, "\n") + "\n"
		}
		if out.String() != want {
			t.Errorf("%q became %q, want %q", text, out.String(), want)
		}
	})
}

func TestLineWithoutEndIsCut(t *testing.T) {
	var out bytes.Buffer
	l := &lines{w: &out, prefix: "> ", mu: &sync.Mutex{}}
	for range 3 {
		if _, err := l.Write(bytes.Repeat([]byte("x"), maxLine/2)); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := out.String(), "> "+strings.Repeat("x", maxLine)+"\n"; got != want {
		t.Errorf("%d bytes written, want %d", len(got), len(want))
	}
}

func TestWhatIsNotAboutTheLanguageIsLeftOut(t *testing.T) {
	got := language([]string{"LANG=C", "LC_ALL=x\ny", "PATH=/x", "LC_TIME=de", "LD_PRELOAD=x", "TERM"})
	if diff := cmp.Diff([]string{"LANG=C", "LC_TIME=de"}, got); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
}

// pieces is a connection that says what each write to it is.
type pieces struct {
	net.Conn
	wrote chan string
}

func (p pieces) Write(b []byte) (int, error) {
	p.wrote <- string(b)
	return p.Conn.Write(b)
}

func TestAnAnswerGoesToTheEngineInOnePiece(t *testing.T) {
	near, far := net.Pipe()
	p, ended := pieces{near, make(chan string, 64)}, make(chan struct{})
	go func() { // ends with the pipe
		defer close(ended)
		new(App).serveBridge(t.Context(), p)
	}()
	io.WriteString(far, "GET / HTTP/1.1\r\nHost: elsewhere\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(far), nil)
	if err != nil || resp.Header.Get(bridgeError) == "" {
		t.Fatalf("%+v, %v", resp, err)
	}
	far.Close()
	<-ended
	close(p.wrote)
	if n := len(p.wrote); n != 1 {
		t.Errorf("%d pieces", n)
	}
}
