package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"ztm/apps/appstest"
	"ztm/tunnel/identity"
)

func TestAFileThatCannotBeUploadedKeepsNoOtherFromThat(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("names are text")
	}
	var n appstest.Net
	alice := newPlace(t, &n, "a", "alice")
	dir := t.TempDir()
	for _, name := range []string{"a", "bad\xff", "bad\xfe", "tab\there", "z"} {
		write(t, filepath.Join(dir, name), name)
	}
	r := alice.run("upload", dir, "odd")
	if r.Status != 1 || !strings.Contains(r.Err, `bad\xff`) || !strings.Contains(r.Err, `bad\xfe`) || !strings.Contains(r.Err, `odd/tab`) {
		t.Errorf("upload says %+v", r)
	}
	if ls := alice.want("ls", "odd").Out; strings.Count(ls, "\n") != 3 || !strings.Contains(ls, "odd/a ") || !strings.Contains(ls, "odd/z ") {
		t.Errorf("published is\n%s", ls)
	}
}

func TestAFileThatChangesWhileItIsUploadedIsSentAnewOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	for times, want := range map[int]string{0: "{}\n0+", 1: "{}\n0-{}\n01+", 2: "{}\n0-{}\n01-{}\n012+", 9: "{}\n0-{}\n01-{}\n012-"} {
		name := write(t, filepath.Join(dir, "x"), "0")
		var out bytes.Buffer
		s := &sender{Writer: bufio.NewWriter(&out)}
		changes := 0
		why, err := s.one(file{name: name}, func(int) {
			if changes++; changes > times {
				return
			}
			f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
			if err == nil {
				_, err = f.WriteString(string(rune('0' + changes)))
				f.Close()
			}
			if err != nil {
				t.Error(err)
			}
		})
		s.Flush()
		if got := heads.ReplaceAllString(out.String(), "{}\n"); err != nil || (why != nil) != (times > 2) || got != want {
			t.Errorf("changed %d times: %q, %v, %v, want %q", times, got, why, err, want)
		}
	}
	if why, err := (&sender{}).one(file{name: filepath.Join(dir, "gone")}, nil); why == nil || err != nil {
		t.Errorf("a file that has gone: %v, %v", why, err)
	}
}

func TestWhatAFileHasNoLongerIsSentAsZerosThatDoNotCount(t *testing.T) {
	for _, in := range []io.Reader{strings.NewReader("ab"), io.MultiReader(strings.NewReader("ab"), iotest.ErrReader(errors.New("the disk is broken")))} {
		p := &padded{in: in}
		b := make([]byte, 5)
		if _, err := io.ReadFull(p, b); err != nil || string(b) != "ab\x00\x00\x00" || p.err == nil {
			t.Errorf("%q, %v, %v", b, err, p.err)
		}
	}
}

func TestACopyTakesItsNameWhenItIsComplete(t *testing.T) {
	to := write(t, filepath.Join(t.TempDir(), "x"), "old")
	replace := func(from io.Reader) error {
		f, err := create(to)
		if err != nil {
			return err
		}
		return f.fill(from)
	}
	if err := replace(io.MultiReader(strings.NewReader("ne"), iotest.ErrReader(errors.New("reset")))); err == nil {
		t.Error("what was cut is no error")
	}
	if b, _ := os.ReadFile(to); string(b) != "old" {
		t.Errorf("after a copy that was cut it has %q", b)
	}
	if err := replace(strings.NewReader("new")); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(to); string(b) != "new" {
		t.Errorf("it has %q", b)
	}
	if list, _ := os.ReadDir(filepath.Dir(to)); len(list) != 1 {
		t.Errorf("beside it are %v", list)
	}
}

// agent is a console whose flows lead to a function.
type agent struct {
	*appstest.Console
	serve func(*net.TCPConn)
	ended <-chan struct{} // of the test: until then the flow stays open there
}

func (a *agent) Open(context.Context, identity.ID, string, url.Values) (net.Conn, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return nil, err
	}
	there, err := l.Accept()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	go func() { // ends with the test
		defer there.Close()
		a.serve(there.(*net.TCPConn))
		<-a.ended
	}()
	return conn, nil
}

func TestAnUploadEndsWhateverTheAgentSays(t *testing.T) {
	large := filepath.Join(t.TempDir(), "large")
	if err := errors.Join(os.WriteFile(large, nil, 0o600), os.Truncate(large, 1<<30)); err != nil {
		t.Fatal(err)
	}
	for name, serve := range map[string]func(*net.TCPConn){
		"it ends and reads nothing": func(c *net.TCPConn) {
			c.CloseWrite()
		},
		"it speaks of more files than there are": func(c *net.TCPConn) {
			for {
				if _, err := c.Write([]byte("{}\n")); err != nil {
					return
				}
			}
		},
	} {
		var n appstest.Net
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		k := &client{&agent{&appstest.Console{Host: n.Join("a", "alice")}, serve, ctx.Done()}}
		if err := k.upload(ctx, large, "", nil); err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "the agent ended the upload") {
			t.Errorf("%s: %v, %v", name, err, ctx.Err())
		}
		cancel()
	}
}

var heads = regexp.MustCompile(`\{"path[^}]*\}\n`)
