//go:build linux

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestPrograms: what people run over TCP works through a tunnel as it does without.
func TestPrograms(t *testing.T) {
	t.Parallel()
	m := newMesh(t, options{})
	bob := m.addAgent("ep-bob", "bob")
	for _, p := range []struct {
		name string
		test func(t *testing.T, m *mesh, exit *agent)
	}{
		{"curl downloads and uploads 100 MB", testCurl},
		{"iperf3 measures both directions", testIperf},
		{"ssh runs commands and scp copies files", testSSH},
		{"redis-cli talks to redis-server", testRedis},
		{"psql talks to postgresql", testPostgreSQL},
		{"nc half-closes in both directions", testNetcat},
	} {
		t.Run(p.name, func(t *testing.T) { p.test(t, m, bob) })
	}
}

// call runs a program to its end, which must be a good one, and returns its output.
func call(t testing.TB, stdin io.Reader, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = cleanEnvironment()
	cmd.Stdin = stdin
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s%s", cmd, err, tail(string(out), 20), tail(stderr.String(), 20))
	}
	return string(out)
}

// testCurl moves a file of 100 MB both ways and compares hashes.
func testCurl(t *testing.T, m *mesh, exit *agent) {
	curl := program(t, "curl", "curl")
	const size = 100 << 20
	file := random(t, "file", size)
	uploaded := make(chan string, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /file", func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "file", time.Time{}, bytes.NewReader(file))
	})
	mux.HandleFunc("PUT /file", func(w http.ResponseWriter, r *http.Request) {
		got, n, err := sumOf(r.Body)
		uploaded <- fmt.Sprintln(got, n, err)
	})
	ln, err := net.Listen("tcp", loopback(freePort(t)))
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{Handler: mux}
	go web.Serve(ln) // ends with Close
	t.Cleanup(func() { web.Close() })
	url := "http://" + m.root.tunnel("web", exit, ln.Addr().String()) + "/file"

	path := filepath.Join(t.TempDir(), "file")
	call(t, nil, curl, "--silent", "--show-error", "--fail", "--output", path, url)
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if sum(got) != sum(file) {
		t.Errorf("downloaded %d bytes, which are not those of the file", len(got))
	}
	call(t, nil, curl, "--silent", "--show-error", "--fail", "--upload-file", path, url)
	if got, want := <-uploaded, fmt.Sprintln(sum(file), size, nil); got != want {
		t.Errorf("uploaded %q, want %q", got, want)
	}
}

// testIperf moves 256 MB each way over one connection, and over four.
func testIperf(t *testing.T, m *mesh, exit *agent) {
	iperf := program(t, "iperf3", "iperf3")
	for _, words := range []string{"", "--reverse", "--parallel 4", "--reverse --parallel 4"} {
		// A server for one run: with what it has not received yet of a run before it is too busy for the next.
		port := freePort(t)
		launch(t, "iperf3", exec.Command(iperf, "--server", "--one-off", "--bind", "127.0.0.1", "--port", strconv.Itoa(port)))
		await(t, "iperf3 listens", func() bool { return listening(t, port) })
		_, entrance, err := net.SplitHostPort(m.root.tunnel(fmt.Sprint("iperf", port), exit, loopback(port)))
		if err != nil {
			t.Fatal(err)
		}
		const size = 256 << 20
		args := []string{"--client", "127.0.0.1", "--port", entrance, "--bytes", strconv.Itoa(size), "--json"}
		var report struct {
			Error string
			End   struct {
				Received struct {
					Bytes int64
					Rate  float64 `json:"bits_per_second"`
				} `json:"sum_received"`
			}
		}
		out := call(t, nil, iperf, append(args, strings.Fields(words)...)...)
		if err := json.Unmarshal([]byte(out), &report); err != nil {
			t.Fatal(err)
		}
		got := report.End.Received
		// Where the client is the sender, the receiver's count is taken when the sender has handed everything over to its
		// kernel: what is on its way then is missing.
		if report.Error != "" || got.Bytes < size/2 {
			t.Errorf("iperf3 %s: %d bytes arrived, want %d; %s", words, got.Bytes, size, report.Error)
		}
		t.Logf("iperf3 %s: %.0f MB/s", words, got.Rate/8e6)
	}
}

// testSSH logs in with a key, runs commands, and copies a file there and back.
func testSSH(t *testing.T, m *mesh, exit *agent) {
	ssh, scp := program(t, "ssh", "openssh-client"), program(t, "scp", "openssh-client")
	key, server := sshServer(t)
	host, port, err := net.SplitHostPort(m.root.tunnel("ssh", exit, server))
	if err != nil {
		t.Fatal(err)
	}
	remote := append(sshOptions(key), "-p", port, "root@"+host)

	const size = 20 << 20
	data := random(t, "ssh", size)
	if got := call(t, bytes.NewReader(data), ssh, append(remote, "sha256sum")...); !strings.HasPrefix(got, sum(data)) {
		t.Errorf("sha256sum over ssh: %s, want %s", got, sum(data))
	}
	if got := call(t, nil, ssh, append(remote, "-tt", "test -t 0 && echo on a terminal")...); got != "on a terminal\r\n" {
		t.Errorf("ssh -tt printed %q", got)
	}
	cmd := exec.Command(ssh, append(remote, "exit 7")...)
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != 7 {
		t.Errorf("ssh 'exit 7': %v, want status 7", err)
	}

	dir := t.TempDir()
	from, there, back := filepath.Join(dir, "from"), filepath.Join(dir, "there"), filepath.Join(dir, "back")
	if err := os.WriteFile(from, data, 0o600); err != nil {
		t.Fatal(err)
	}
	copy := append(sshOptions(key), "-q", "-P", port)
	call(t, nil, scp, append(copy, from, "root@"+host+":"+there)...)
	call(t, nil, scp, append(copy, "root@"+host+":"+there, back)...)
	got, err := os.ReadFile(back)
	if err != nil {
		t.Fatal(err)
	}
	if sum(got) != sum(data) {
		t.Error("scp there and back changed the file")
	}
}

// sshServer starts an OpenSSH server that takes one key, and returns the key's file and the server's address.
func sshServer(t testing.TB) (key, address string) {
	t.Helper()
	sshd, keygen := program(t, "sshd", "openssh-server"), program(t, "ssh-keygen", "openssh-client")
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // where the server locks its children in
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(workspace, "ssh-")
	if err != nil {
		t.Fatal(err)
	}
	key = filepath.Join(dir, "user")
	hostKey := filepath.Join(dir, "host")
	for _, k := range []string{key, hostKey} {
		call(t, nil, keygen, "-q", "-t", "ed25519", "-N", "", "-f", k)
	}
	port := freePort(t)
	server := launch(t, "sshd", exec.Command(sshd, "-D", "-e", "-f", "/dev/null", "-h", hostKey,
		"-o", "ListenAddress="+loopback(port), "-o", "AuthorizedKeysFile="+key+".pub", "-o", "PidFile=none", "-o", "UsePAM=no",
		"-o", "StrictModes=no", "-o", "PermitRootLogin=prohibit-password", "-o", "Subsystem=sftp internal-sftp"))
	await(t, "sshd listens", func() bool { return strings.Contains(server.output(), "Server listening") })
	return key, loopback(port)
}

// testRedis writes and reads a large value and sends many commands in one go.
func testRedis(t *testing.T, m *mesh, exit *agent) {
	cli := program(t, "redis-cli", "redis-tools")
	host, port, err := net.SplitHostPort(m.root.tunnel("redis", exit, redisServer(t, "127.0.0.1")))
	if err != nil {
		t.Fatal(err)
	}
	at := []string{"-h", host, "-p", port}
	const size = 10 << 20
	data := random(t, "redis", size)
	if got := call(t, bytes.NewReader(data), cli, append(at, "-x", "set", "large")...); got != "OK\n" {
		t.Fatalf("set: %q", got)
	}
	got := strings.TrimSuffix(call(t, nil, cli, append(at, "get", "large")...), "\n")
	if sum([]byte(got)) != sum(data) {
		t.Errorf("get returned %d bytes, which are not those that were set", len(got))
	}
	const commands = 100_000
	many := strings.Repeat("INCR counter\r\n", commands)
	call(t, strings.NewReader(many), cli, append(at, "--pipe")...)
	if got := call(t, nil, cli, append(at, "get", "counter")...); got != fmt.Sprintln(commands) {
		t.Errorf("after %d increments the counter is %s", commands, got)
	}
}

// redisServer starts a server that keeps nothing on disk and returns its address.
func redisServer(t testing.TB, ip string, words ...string) string {
	t.Helper()
	port := freePort(t)
	args := append(words, program(t, "redis-server", "redis-server"), "--bind", ip, "--port", strconv.Itoa(port),
		"--save", "", "--appendonly", "no", "--protected-mode", "no", "--dir", workspace)
	server := launch(t, "redis", exec.Command(args[0], args[1:]...))
	await(t, "redis-server listens", func() bool { return strings.Contains(server.output(), "Ready to accept connections") })
	return net.JoinHostPort(ip, strconv.Itoa(port))
}

// testPostgreSQL loads a table through the tunnel, reads it back, and compares.
func testPostgreSQL(t *testing.T, m *mesh, exit *agent) {
	psql := program(t, "psql", "postgresql")
	host, port, err := net.SplitHostPort(m.root.tunnel("db", exit, postgres(t)))
	if err != nil {
		t.Fatal(err)
	}
	query := func(stdin io.Reader, sql string) string {
		t.Helper()
		return call(t, stdin, psql, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", host, "-p", port, "-U", "postgres", "-c", sql)
	}
	var rows strings.Builder
	for i := range 200_000 {
		fmt.Fprintf(&rows, "%d\t%x\n", i, uint64(i)*uint64(i)*2654435761)
	}
	query(nil, "create table t (id int primary key, word text)")
	query(strings.NewReader(rows.String()), "copy t from stdin")
	if got := query(nil, "copy (select * from t order by id) to stdout"); got != rows.String() {
		t.Errorf("the table came back with %d bytes, want %d", len(got), rows.Len())
	}
}

// postgres makes a database cluster, starts its server and returns its address. The server refuses to be root.
func postgres(t testing.TB) string {
	t.Helper()
	initdb, server := program(t, "initdb", "postgresql"), program(t, "postgres", "postgresql")
	account, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(err)
	}
	uid, err1 := strconv.ParseUint(account.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(account.Gid, 10, 32)
	dir, err3 := os.MkdirTemp(workspace, "db-")
	for _, err := range []error{err1, err2, err3, os.Chown(dir, int(uid), int(gid))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	as := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		return cmd
	}
	data := filepath.Join(dir, "data")
	if out, err := as(initdb, "-D", data, "-A", "trust", "-U", "postgres", "-N", "--no-instructions").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	port := freePort(t)
	p := launch(t, "postgres", as(server, "-D", data, "-p", strconv.Itoa(port), "-k", dir, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"))
	t.Cleanup(func() { // before it is killed: its children and its shared memory go with an orderly end
		p.signal(syscall.SIGINT)
		p.wait()
	})
	await(t, "postgres is ready", func() bool { return strings.Contains(p.output(), "ready to accept connections") })
	return loopback(port)
}

// testNetcat: each side can end what it sends and still receive.
func testNetcat(t *testing.T, m *mesh, exit *agent) {
	nc := program(t, "nc", "netcat-openbsd")
	const size = 10 << 20
	there, back := random(t, "there", size), random(t, "back", size)
	for _, c := range []struct {
		name       string
		sent, answ []byte
	}{
		{"the server ends at once and receives", there, nil},
		{"both send nothing", nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			port := freePort(t)
			server := exec.Command(nc, "-N", "-l", "127.0.0.1", strconv.Itoa(port))
			server.Stdin = bytes.NewReader(c.answ)
			var got bytes.Buffer
			server.Stdout = &got
			if err := server.Start(); err != nil {
				t.Fatal(err)
			}
			defer server.Process.Kill()
			await(t, "nc listens", func() bool { return listening(t, port) })
			name := fmt.Sprintf("nc%d", port)
			host, entrance, err := net.SplitHostPort(m.root.tunnel(name, exit, loopback(port)))
			if err != nil {
				t.Fatal(err)
			}
			answer := call(t, bytes.NewReader(c.sent), nc, "-N", host, entrance)
			if err := server.Wait(); err != nil {
				t.Errorf("the server: %v", err)
			}
			if !bytes.Equal(got.Bytes(), c.sent) {
				t.Errorf("the server got %d bytes, the client sent %d", got.Len(), len(c.sent))
			}
			if answer != string(c.answ) {
				t.Errorf("the client got %d bytes, the server sent %d", len(answer), len(c.answ))
			}
		})
	}

	// A listening nc ends when its client does, whatever it still has to send: these take another server.
	t.Run("both send at once", func(t *testing.T) {
		result := make(chan string, 1)
		s := serve(t, func(c *net.TCPConn) {
			wrote := make(chan error, 1)
			go func() {
				_, err := c.Write(back)
				wrote <- errors.Join(err, c.CloseWrite())
			}()
			got, n, err := sumOf(c)
			result <- fmt.Sprintln(got, n, errors.Join(err, <-wrote))
		})
		host, entrance, err := net.SplitHostPort(m.root.tunnel("both", exit, s.address()))
		if err != nil {
			t.Fatal(err)
		}
		answer := call(t, bytes.NewReader(there), nc, "-N", host, entrance)
		if got, want := <-result, fmt.Sprintln(sum(there), size, nil); got != want {
			t.Errorf("the server got %q, want %q", got, want)
		}
		if answer != string(back) {
			t.Errorf("the client got %d bytes, the server sent %d", len(answer), len(back))
		}
	})
	t.Run("the client ends and then receives", func(t *testing.T) {
		result := make(chan string, 1)
		s := serve(t, func(c *net.TCPConn) {
			got, n, err := sumOf(c)
			result <- fmt.Sprintln(got, n, err)
			c.Write(back)
		})
		host, entrance, err := net.SplitHostPort(m.root.tunnel("sum", exit, s.address()))
		if err != nil {
			t.Fatal(err)
		}
		answer := call(t, bytes.NewReader(there), nc, "-N", host, entrance)
		if got, want := <-result, fmt.Sprintln(sum(there), size, nil); got != want {
			t.Errorf("the server got %q, want %q", got, want)
		}
		if answer != string(back) {
			t.Errorf("the client got %d bytes, the server sent %d", len(answer), len(back))
		}
	})
}

// listening reports whether somebody listens on a port, without connecting: a server for one connection would end.
func listening(t testing.TB, port int) bool {
	t.Helper()
	b, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	const listen = "0A"
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 3 && f[1] == kernelAddress(port) && f[3] == listen {
			return true
		}
	}
	return false
}
