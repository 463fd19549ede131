package sdk_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ztm/apps/appstest"
	"ztm/apps/external/contract"
	"ztm/apps/external/sdk"
)

func TestMain(m *testing.M) {
	if os.Getenv("LISTEN_FDNAMES") == "ztm" {
		Example() // this is the app of a test
		return
	}
	os.Exit(appstest.Run(m))
}

func TestAProgramServesOnTheSocketThatItIsHanded(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	handed, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer handed.Close()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	app := exec.CommandContext(t.Context(), exe)
	app.Env, app.ExtraFiles = append(os.Environ(), "LISTEN_FDNAMES=ztm"), []*os.File{handed}
	if err := app.Start(); err != nil {
		t.Fatal(err)
	}
	defer app.Wait()
	defer app.Process.Kill()
	r, err := http.NewRequest(http.MethodGet, "http://"+ln.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Ztm-Peer-User", "bob")
	r.Close = true
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); string(text) != "Hello bob.\n" || err != nil {
		t.Errorf("it answers %q, %v", text, err)
	}
}

// asks sends a request with an upgrade to a handler, and an input behind it.
func asks(t *testing.T, h http.Handler, target, protocol, input string) (*http.Response, *bufio.Reader) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	io.WriteString(c, "GET "+target+" HTTP/1.1\r\nHost: ztm\r\nZtm-Peer-User: bob\r\nConnection: Upgrade\r\nUpgrade: "+protocol+"\r\n\r\n"+input)
	c.(*net.TCPConn).CloseWrite()
	in := bufio.NewReader(c)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	return resp, in
}

func TestACommandHasItsArgumentsItsInputAndAStatus(t *testing.T) {
	h := sdk.Command(func(from sdk.Caller, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
		text, err := io.ReadAll(stdin)
		if err != nil {
			return 1
		}
		io.WriteString(stdout, from.User+" "+strings.Join(args, "|"))
		stderr.Write(text)
		return 7
	})
	u, err := contract.CommandTarget([]string{"a b", ""})
	if err != nil {
		t.Fatal(err)
	}
	_, in := asks(t, h, u.RequestURI(), contract.Command, "typed")
	var stdout, stderr bytes.Buffer
	status, err := contract.CopyFrames(&stdout, &stderr, in)
	if status != 7 || err != nil || stdout.String() != "bob a b|" || stderr.String() != "typed" {
		t.Errorf("status %d, %v, %q, %q", status, err, &stdout, &stderr)
	}
}

func TestAStreamHalfCloses(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, err := sdk.Stream(w, r); err == nil {
			defer c.Close()
			io.Copy(c, c)
			c.CloseWrite()
		}
	})
	_, in := asks(t, h, "/", contract.Stream, "hello")
	if text, err := io.ReadAll(in); string(text) != "hello" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	if resp, _ := asks(t, h, "/", "websocket", ""); resp.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("a request for something else: %s", resp.Status)
	}
}

// agent serves what a program asks.
func agent(t *testing.T, h http.HandlerFunc) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "ztm-sdk-")
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("unix", filepath.Join(dir, "api"))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("ZTM_API", ln.Addr().String())
	s := &httptest.Server{Listener: ln, Config: &http.Server{Handler: h}}
	s.Start()
	t.Cleanup(func() { s.Close(); os.RemoveAll(dir) })
}

func TestAProgramAsksItsAgent(t *testing.T) {
	t.Setenv("ZTM_DATA", "/data")
	agent(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/v1/self":
			json.NewEncoder(w).Encode(map[string]string{"user": "alice"})
		case r.URL.Query().Get("to") == "nas":
			if c, err := sdk.Stream(w, r); err == nil {
				io.WriteString(c, "from "+r.URL.Query().Get("path"))
				c.Close()
			}
		default:
			http.Error(w, "no such endpoint", http.StatusNotFound)
		}
	})
	client := sdk.Client()
	defer client.CloseIdleConnections()
	resp, err := client.Get("http://ztm/v1/self")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); !strings.Contains(string(text), "alice") || err != nil || sdk.Data() != "/data" {
		t.Errorf("%s, %v", text, err)
	}
	c, err := sdk.Open(t.Context(), "nas", "room 1")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if text, err := io.ReadAll(c); string(text) != "from room 1" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := sdk.Open(t.Context(), "nowhere", ""); err == nil || !strings.Contains(err.Error(), "no such endpoint") {
		t.Errorf("an endpoint that is not there: %v", err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := sdk.Open(over, "nas", ""); !errors.Is(err, context.Canceled) {
		t.Errorf("an opening that was given up: %v", err)
	}
}
