package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"ztm/apps/appstest"
)

// What the sessions of the pages find around the mesh: a service at each address that a page names.

// place is what a page reaches at an address.
type place struct {
	address string                  // as the page names it
	needs   string                  // the program that serves it, if it is none of this file
	start   func(s *session) string // starts it and returns its address here
}

var places = []place{
	{"127.0.0.1:8080", "", web("Hello from the office: the hub carried this and could not read it.")},
	{"192.168.1.20:80", "", web("The wiki of the office")},
	{"192.168.1.30:3389", "", (*session).rdpServer},
	{"127.0.0.1:5900", "", (*session).vncServer},
	{"127.0.0.1:%p", "sshd", (*session).sshServer},
	{"db.internal:5432", "postgres", (*session).postgres},
	{"cache.internal:6379", "redis-server", (*session).redis},
	{"web.shop.svc.cluster.local:80", "", web("The shop of the east")},
	{"127.0.0.1:3000", "", web("The hook was called")},
	{"10.43.0.10:80", "", web("The stock of the east")},
	{"localPort = 8080", "", func(s *session) string {
		return "localPort = " + appstest.Port(web("The shop of the office")(s))
	}},
	{"192.168.8.50:80", "", web("pump 1: 61 °C")},
	{"127.0.0.1:8123", "", web("The lights are off")},
}

// missing is the program that a place needs and that is not here.
func (v place) missing() string {
	if v.needs == "" || installed(v.needs) != "" {
		return ""
	}
	return v.needs
}

// installed is the file of a program, or nothing: servers are often outside of the path of users,
// and Debian keeps those of databases elsewhere.
func installed(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, pattern := range []string{"/usr/sbin/", "/usr/lib/postgresql/*/bin/"} {
		if paths, _ := filepath.Glob(pattern + name); len(paths) > 0 { // only a malformed pattern is an error
			return paths[0]
		}
	}
	return ""
}

// web serves one sentence by HTTP.
func web(sentence string) func(*session) string {
	return func(s *session) string {
		ln := s.listen()
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintln(w, sentence)
		})}
		var done sync.WaitGroup
		done.Go(func() { server.Serve(ln) })
		s.t.Cleanup(func() { server.Close(); done.Wait() })
		return ln.Addr().String()
	}
}

func (s *session) listen() net.Listener {
	s.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	return ln
}

// vncServer says what it is (RFC 6143, 7.1.1).
func (s *session) vncServer() string { return s.answering(0, "RFB 003.008\n") }

// rdpServer confirms a connection request (X.224, in TPKT of RFC 1006).
func (s *session) rdpServer() string {
	return s.answering(11, "\x03\x00\x00\x0b\x06\xd0\x00\x00\x12\x34\x00")
}

// answering is a server that reads so many bytes of each client, says something and hangs up.
func (s *session) answering(reads int, says string) string {
	ln := s.listen()
	var done sync.WaitGroup
	done.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			if n, err := c.Read(make([]byte, reads)); err == nil && n == reads {
				fmt.Fprint(c, says)
			}
			c.Close()
		}
	})
	s.t.Cleanup(func() { ln.Close(); done.Wait() })
	return ln.Addr().String()
}

// daemon starts a server, waits until it says that it serves, and ends it with the test.
func (s *session) daemon(cmd *exec.Cmd, says string) {
	s.t.Helper()
	out := &appstest.Buffer{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { cmd.Process.Signal(syscall.SIGINT); cmd.Wait() })
	w := world{t: s.t}
	w.until(cmd.Path+" serves", func() error {
		if !strings.Contains(out.String(), says) {
			return fmt.Errorf("it says %s", out)
		}
		return nil
	})
}

// wrapper puts a program in front of all others of its name.
func (s *session) wrapper(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.bin, name), []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		s.t.Fatal(err)
	}
}

// sshServer lets in whoever runs the test, with a key that the ssh of the session uses. That program
// takes its home directory from the system, so that its settings have to be named.
func (s *session) sshServer() string {
	me, err := user.Current()
	if err != nil {
		s.t.Fatal(err)
	}
	if me.Uid == "0" { // where the server locks its children in
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			s.t.Fatal(err)
		}
	}
	dir := s.t.TempDir()
	for _, key := range []string{"user", "host"} {
		cmd := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, key))
		if out, err := cmd.CombinedOutput(); err != nil {
			s.t.Fatalf("ssh-keygen: %v\n%s", err, out)
		}
	}
	address := appstest.FreeAddress(s.t)
	s.daemon(exec.Command(installed("sshd"), "-D", "-e", "-f", "/dev/null", "-h", filepath.Join(dir, "host"),
		"-o", "ListenAddress="+address, "-o", "AuthorizedKeysFile="+filepath.Join(dir, "user.pub"), "-o", "PidFile=none",
		"-o", "UsePAM=no", "-o", "StrictModes=no", "-o", "PermitRootLogin=prohibit-password"), "Server listening")
	config := fmt.Sprintf("IdentityFile %s/user\nUser %s\nStrictHostKeyChecking no\nUserKnownHostsFile /dev/null\n"+
		"LogLevel ERROR\n", dir, me.Username)
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte(config), 0o600); err != nil {
		s.t.Fatal(err)
	}
	for _, name := range []string{"ssh", "scp"} {
		if path := installed(name); path != "" {
			s.wrapper(name, "exec "+path+" -F "+filepath.Join(dir, "config")+` "$@"`)
		}
	}
	return address
}

func (s *session) redis() string {
	address := appstest.FreeAddress(s.t)
	s.daemon(exec.Command(installed("redis-server"), "--bind", "127.0.0.1", "--port", appstest.Port(address),
		"--save", "", "--appendonly", "no", "--dir", s.t.TempDir()), "Ready to accept connections")
	return address
}

// postgres makes a database and serves it.
func (s *session) postgres() string {
	dir, err := os.MkdirTemp("", "ztm-db-")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { os.RemoveAll(dir) })
	as := func(name string, args ...string) *exec.Cmd {
		words := append(s.lesser(dir), installed(name))
		cmd := exec.Command(words[0], append(words[1:], args...)...)
		cmd.Dir = dir
		return cmd
	}
	data := filepath.Join(dir, "data")
	if out, err := as("initdb", "-D", data, "-A", "trust", "-U", "app", "-N", "--no-instructions").CombinedOutput(); err != nil {
		s.t.Fatalf("initdb: %v\n%s", err, out)
	}
	address := appstest.FreeAddress(s.t)
	s.daemon(as("postgres", "-D", data, "-p", appstest.Port(address), "-k", dir,
		"-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"), "ready to accept connections")
	return address
}

// lesser is what root says before the name of a program that refuses to be root, and gives the
// directory to the account of databases.
func (s *session) lesser(dir string) []string {
	if os.Getuid() != 0 {
		return nil
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		s.t.Fatal(err)
	}
	uid, err := strconv.Atoi(account.Uid)
	if err == nil {
		err = os.Chown(dir, uid, -1)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return []string{"setpriv", "--reuid", account.Uid, "--clear-groups"}
}
