package seal

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ztm/apps/appstest"
	"ztm/tunnel/flow"
	"ztm/tunnel/h2"
	"ztm/tunnel/identity"
	"ztm/tunnel/identity/identitytest"
	"ztm/tunnel/tuning"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

// member is an endpoint of a test mesh.
type member struct {
	id   identity.ID
	cert tls.Certificate
	v    *identity.Verifier
}

func newMembers(t testing.TB, users ...string) []member {
	t.Helper()
	m := identitytest.New(t, time.Now())
	var out []member
	for _, user := range users {
		d := m.Member(user)
		out = append(out, member{d.ID, d.Cert, m.Verifier()})
	}
	return out
}

// tap is a path that keeps what crosses it, both ways.
type tap struct {
	net.Conn
	mu     sync.Mutex
	seen   bytes.Buffer
	writes int
}

func (c *tap) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen.Write(p[:n])
	return n, err
}

func (c *tap) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.seen.Write(p)
	c.writes++
	c.mu.Unlock()
	return c.Conn.Write(p)
}

// connect seals a loopback connection between a and b, and serves at b's side.
func connect(t testing.TB, a, b member, want identity.ID, handler http.HandlerFunc) (*Session, *tap, identity.Subject, error) {
	t.Helper()
	near, far, err := appstest.Pair("tcp")
	if err != nil {
		t.Fatal(err)
	}
	path := &tap{Conn: near}
	server := h2.NewServer(handler, tuning.Sealed)
	type accepted struct {
		peer identity.Subject
		err  error
	}
	done := make(chan accepted, 1)
	go func() {
		acc, err := Server(context.Background(), far, b.v, func() tls.Certificate { return b.cert }, nil)
		if err == nil {
			server.Serve(&h2.Tagged{Conn: acc.Session, Tag: acc.Peer})
		}
		done <- accepted{acc.Peer, err}
	}()
	s, err := Client(t.Context(), path, a.v, a.cert, want)
	acc := <-done
	t.Cleanup(func() {
		if s != nil {
			s.Close()
		}
		server.Close()
	})
	return s, path, acc.peer, errors.Join(err, acc.err)
}

func echo(t testing.TB) http.HandlerFunc {
	return func(_ http.ResponseWriter, r *http.Request) {
		c, err := flow.Accept(h2.StreamOf(r), false, nil)
		if err != nil {
			return
		}
		io.Copy(c, c)
		c.Finish()
	}
}

func openFlow(t testing.TB, s *Session) *flow.Conn {
	t.Helper()
	c, err := s.Open(t.Context(), flow.Request{Path: "echo/"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestWhatCrossesThePathShowsNothingOfTheFlow(t *testing.T) {
	m := newMembers(t, "alice-of-alice", "robert-of-bob") // long enough not to be there by chance
	s, path, peer, err := connect(t, m[0], m[1], m[1].id, echo(t))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("alice-of-alice", peer.User); diff != "" {
		t.Errorf("who B thinks A is (-want +got):\n%s", diff)
	}
	c := openFlow(t, s)
	secret := bytes.Repeat([]byte("attack at dawn; "), 4096)
	go func() { c.Write(secret); c.CloseWrite() }()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, secret) {
		t.Fatalf("echo of %d bytes has %d, %v", len(secret), len(got), err)
	}
	c.Close()
	path.mu.Lock()
	defer path.mu.Unlock()
	for _, word := range []string{"attack at dawn", "alice-of-alice", "robert-of-bob", "ztm://", "/v1/apps/"} {
		if bytes.Contains(path.seen.Bytes(), []byte(word)) {
			t.Errorf("the path saw %q", word)
		}
	}
}

func TestAnotherPeerThanTheWantedOneIsRefused(t *testing.T) {
	m := newMembers(t, "alice", "bob", "mallory")
	_, _, _, err := connect(t, m[0], m[2], m[1].id, echo(t))
	if !errors.Is(err, identity.ErrWrongID) {
		t.Errorf("got %v", err)
	}
}

func TestAPeerOfAnotherMeshIsRefused(t *testing.T) {
	m, other := newMembers(t, "alice"), newMembers(t, "bob")
	if _, _, _, err := connect(t, m[0], other[0], other[0].id, echo(t)); err == nil {
		t.Error("a session stands")
	}
}

func TestLosingThePathEndsTheSessionAndItsFlows(t *testing.T) {
	m := newMembers(t, "alice", "bob")
	s, path, _, err := connect(t, m[0], m[1], m[1].id, echo(t))
	if err != nil {
		t.Fatal(err)
	}
	c := openFlow(t, s)
	path.Conn.Close()
	if _, err := io.ReadAll(c); err == nil {
		t.Error("the flow ended cleanly")
	}
	<-s.Done()
	if s.Err() == nil {
		t.Error("the session is still offered")
	}
}
