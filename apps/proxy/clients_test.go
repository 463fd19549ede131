package proxy

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"ztm/apps/appstest"
)

// Programs that people use with a proxy.

// program returns the path of a program, or skips the test.
func program(t *testing.T, pkg string, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skipf("%s is missing: apt-get install %s", names[0], pkg)
	return ""
}

// command runs a program without the proxies that the environment may have, and returns what it prints.
func command(t *testing.T, env []string, path string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), path, args...)
	for _, e := range os.Environ() {
		if name, _, _ := strings.Cut(strings.ToLower(e), "="); !strings.HasSuffix(name, "_proxy") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(cmd.Env, env...)
	cmd.WaitDelay = time.Second
	b, err := cmd.CombinedOutput()
	return string(b), err
}

func TestCurl(t *testing.T) {
	appstest.Long(t)
	curl := program(t, "curl", "curl")
	large := make([]byte, 4<<20)
	rand.Read(large)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "PUT" {
			n, _ := io.Copy(io.Discard, r.Body)
			fmt.Fprintf(w, "%d bytes", n)
			return
		}
		w.Write(large)
	})
	plain, secure := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	defer plain.Close()
	defer secure.Close()
	in, _ := pair(t, Options{Resolver: names("svc.example.com"), Dial: dialTo(map[string]string{
		"10.1.1.1:80": plain.Listener.Addr().String(), "10.1.1.1:443": secure.Listener.Addr().String(),
	})}, "*.example.com", "10.1.0.0/16")
	address := in.listen(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, large, 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(t *testing.T, proxy string) {
		host := "svc.example.com"
		if strings.HasPrefix(proxy, "socks5:") || strings.HasPrefix(proxy, "socks4:") {
			host = "10.1.1.1" // curl would resolve the name by itself
		}
		for _, scheme := range []string{"http", "https"} {
			out := filepath.Join(t.TempDir(), "out")
			msg, err := command(t, nil, curl, "-sSfk", "-m", "20", "-x", proxy, "-o", out, scheme+"://"+host+"/")
			if got, _ := os.ReadFile(out); err != nil || !bytes.Equal(got, large) {
				t.Errorf("download by %s: %v, %d bytes: %s", scheme, err, len(got), msg)
			}
			msg, err = command(t, nil, curl, "-sSfk", "-m", "20", "-x", proxy, "-T", file, scheme+"://"+host+"/")
			if want := fmt.Sprintf("%d bytes", len(large)); err != nil || msg != want {
				t.Errorf("upload by %s: %v: %s", scheme, err, msg)
			}
		}
	}
	schemes := []string{"http", "socks4", "socks4a", "socks5", "socks5h"}
	for _, scheme := range schemes {
		t.Run(scheme, func(t *testing.T) { check(t, scheme+"://"+address) })
	}
	t.Run("tunnel for plain HTTP", func(t *testing.T) {
		msg, err := command(t, nil, curl, "-sSf", "-m", "20", "-p", "-x", "http://"+address, "-T", file, "http://svc.example.com/")
		if err != nil || !strings.HasSuffix(msg, "bytes") {
			t.Errorf("%v: %s", err, msg)
		}
	})
	if err := in.call("PUT", "/credentials/me", map[string]string{"password": "p@ss word"}, nil); err != nil {
		t.Fatal(err)
	}
	for _, scheme := range schemes {
		t.Run(scheme+" with a password", func(t *testing.T) {
			if !strings.HasPrefix(scheme, "socks4") {
				check(t, scheme+"://me:p%40ss%20word@"+address)
			}
			for _, userinfo := range []string{"", "me:wrong@", "you:p%40ss%20word@"} {
				if msg, err := command(t, nil, curl, "-sSf", "-m", "20", "-x", scheme+"://"+userinfo+address, "http://10.1.1.1/", "-o", os.DevNull); err == nil {
					t.Errorf("with %q: let in: %s", userinfo, msg)
				}
			}
		})
	}
	t.Run("http with a password asked for", func(t *testing.T) {
		msg, err := command(t, nil, curl, "-sSfk", "-m", "20", "--proxy-anyauth", "-x", "http://me:p%40ss%20word@"+address, "-T", file, "https://svc.example.com/")
		if err != nil || !strings.HasSuffix(msg, "bytes") {
			t.Errorf("%v: %s", err, msg)
		}
	})
}

func TestCurlSaysWhatWentWrong(t *testing.T) {
	curl := program(t, "curl", "curl")
	address, _, _ := target(t)
	for _, tt := range []struct{ to, socks5, http string }{
		{"10.0.0.1:81", "(5)", "502"},
		{"10.0.0.1:82", "(4)", "502"},
		{"no.example.com:80", "(4)", "502"},
		{"hidden.example.com:80", "(2)", "403"},
		{"www.example.net:80", "(3)", "502"},
	} {
		if msg, err := command(t, nil, curl, "-sS", "-m", "20", "-x", "socks5h://"+address, "http://"+tt.to+"/"); err == nil || !strings.Contains(msg, tt.socks5) {
			t.Errorf("%s by SOCKS: %v, want %s: %s", tt.to, err, tt.socks5, msg)
		}
		for _, how := range []string{"-s", "-p"} {
			msg, _ := command(t, nil, curl, "-s", how, "-m", "20", "-x", "http://"+address, "-o", os.DevNull, "-w", "%{http_code} %{http_connect}", "http://"+tt.to+"/")
			if !strings.Contains(msg, tt.http) {
				t.Errorf("%s by HTTP %s: want %s: %s", tt.to, how, tt.http, msg)
			}
		}
	}
}

func TestGit(t *testing.T) {
	appstest.Long(t)
	git := program(t, "git", "git")
	dir := t.TempDir()
	repo := filepath.Join(dir, "repo")
	run := func(args ...string) {
		t.Helper()
		if msg, err := command(t, nil, git, append([]string{"-c", "user.name=a", "-c", "user.email=a@example.com"}, args...)...); err != nil {
			t.Fatalf("git %v: %v: %s", args, err, msg)
		}
	}
	run("init", "-q", repo)
	for i := range 20 {
		text := make([]byte, 50<<10)
		rand.Read(text)
		write(t, filepath.Join(repo, "file"), base64.StdEncoding.EncodeToString(text))
		run("-C", repo, "add", "file")
		run("-C", repo, "commit", "-q", "-m", fmt.Sprint("commit ", i))
	}
	run("clone", "-q", "--bare", repo, filepath.Join(dir, "repo.git"))
	run("-C", filepath.Join(dir, "repo.git"), "update-server-info")

	exe, err := command(t, nil, git, "--exec-path")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/smart/", &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(exe), "git-http-backend"), Root: "/smart", Env: []string{"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1"},
	})
	mux.Handle("/dumb/", http.StripPrefix("/dumb", http.FileServer(http.Dir(dir))))
	server := httptest.NewServer(mux)
	defer server.Close()
	address, _, _ := entranceTo(t, server.Listener.Addr().String())
	for _, proxy := range []string{"http://", "socks5h://"} {
		for _, kind := range []string{"smart", "dumb"} {
			to := filepath.Join(t.TempDir(), "clone")
			run("-c", "http.proxy="+proxy+address, "clone", "-q", "http://svc.example.com/"+kind+"/repo.git", to)
			got, err := os.ReadFile(filepath.Join(to, "file"))
			want, _ := os.ReadFile(filepath.Join(repo, "file"))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s by %s: %v, %d bytes, want %d", kind, proxy, err, len(got), len(want))
			}
		}
	}
}

func TestSSH(t *testing.T) {
	appstest.Long(t)
	ssh, sshd := program(t, "openssh-client", "ssh"), program(t, "openssh-server", "sshd", "/usr/sbin/sshd")
	nc, keygen := program(t, "netcat-openbsd", "nc.openbsd", "nc"), program(t, "openssh-client", "ssh-keygen")
	if os.Getuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Skipf("sshd needs /run/sshd: %v", err)
		}
	}
	dir := t.TempDir()
	for _, key := range []string{"host", "user"} {
		if msg, err := command(t, nil, keygen, "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, key)); err != nil {
			t.Fatalf("%v: %s", err, msg)
		}
	}
	config := filepath.Join(dir, "sshd_config")
	write(t, config, "UsePAM no\nStrictModes no\nPermitRootLogin yes\nAuthorizedKeysFile "+filepath.Join(dir, "user.pub")+"\nHostKey "+filepath.Join(dir, "host")+"\n")
	// One sshd for each connection, on it, as inetd does.
	server := serveInetd(t, sshd, "-i", "-e", "-f", config)
	in, _ := pair(t, Options{Resolver: names("host.example.com"), Dial: dialTo(map[string]string{"10.1.1.1:22": server})}, "*.example.com:22")
	address := in.listen(t)
	for _, version := range []string{"4", "5", "connect"} {
		args := []string{"-F", os.DevNull, "-i", filepath.Join(dir, "user"), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=" + os.DevNull,
			"-o", "LogLevel=ERROR", "-o", "ConnectTimeout=20", "-o", "ProxyCommand=" + nc + " -X " + version + " -x " + address + " %h %p"}
		host := "host.example.com"
		if version == "4" {
			host = "10.1.1.1" // nc resolves names by itself for SOCKS4
			in2, _ := pair(t, Options{Dial: dialTo(map[string]string{"10.1.1.1:22": server})}, "10.0.0.0/8")
			args[len(args)-1] = "ProxyCommand=" + nc + " -X 4 -x " + in2.listen(t) + " %h %p"
		}
		out, err := command(t, nil, ssh, append(args, host, "echo hello; exit 7")...)
		status, ok := err.(*exec.ExitError)
		if !ok || status.ExitCode() != 7 || out != "hello\n" {
			t.Errorf("nc -X %s: %v: %s", version, err, out)
		}
	}
}

// serveInetd runs a program for each connection, with the connection as its standard input and output.
func serveInetd(t *testing.T, path string, args ...string) string {
	t.Helper()
	return serveTCP(t, func(c *net.TCPConn) {
		f, err := c.File()
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		cmd := exec.Command(path, args...)
		cmd.Stdin, cmd.Stdout = f, f
		if err := cmd.Start(); err != nil {
			t.Error(err)
			return
		}
		cmd.Wait() // its status is that of the session
	})
}

func TestABrowserLoadsAPageWithFiftyResources(t *testing.T) {
	appstest.Long(t)
	chromium := program(t, "chromium", "chromium", "chromium-browser", "google-chrome")
	const resources = 50
	var served sync.Map
	var sockets atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/":
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, "<!doctype html><title>page</title><script>var n=0; function one(){ if(++n=="+fmt.Sprint(resources)+") document.title='complete' }</script><body>")
			for i := range resources {
				fmt.Fprintf(w, "<script src='/script/%d' onload='one()'></script>", i)
			}
		case strings.HasPrefix(r.URL.Path, "/script/"):
			served.Store(r.URL.Path, true)
			w.Header().Set("Content-Type", "text/javascript")
			fmt.Fprintf(w, "/*%s*/", strings.Repeat("x", 20<<10))
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer server.Close()
	address, in, _ := entranceTo(t, server.Listener.Addr().String())
	for name, flag := range map[string]string{
		"http": "--proxy-server=http://" + address, "socks5": "--proxy-server=socks5://" + address, "pac": "--proxy-pac-url=http://" + address + "/proxy.pac",
	} {
		t.Run(name, func(t *testing.T) {
			served.Clear()
			before := in.app.entrance.clients.Total()
			out, err := command(t, nil, chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
				"--disable-background-networking", "--user-data-dir="+t.TempDir(), flag, "--virtual-time-budget=20000", "--dump-dom", "http://svc.example.com/")
			n := 0
			served.Range(func(any, any) bool { n++; return true })
			if err != nil || n != resources || !strings.Contains(out, "<title>complete</title>") {
				t.Errorf("%v, %d of %d resources: %.2000s", err, n, resources, out)
			}
			sockets.Add(in.app.entrance.clients.Total() - before)
		})
	}
	t.Logf("%d connections to the proxy", sockets.Load())
}
