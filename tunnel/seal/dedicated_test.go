package seal

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"ztm/apps/appstest"
	"ztm/tunnel/gather"
)

// dedicated seals a loopback connection for one flow, and returns both ends and a's path.
func dedicated(t testing.TB) (a, b *Dedicated, path interface{ CloseWrite() error }) {
	t.Helper()
	near, far, err := appstest.Pair("tcp")
	if err != nil {
		t.Fatal(err)
	}
	a, b = dedicatedOver(t, near, far)
	return a, b, near.(interface{ CloseWrite() error })
}

func dedicatedOver(t testing.TB, near, far net.Conn) (a, b *Dedicated) {
	t.Helper()
	members := newMembers(t, "alice", "bob")
	served := make(chan error, 1)
	go func() { // ends with the handshake; awaited below
		acc, err := Server(context.Background(), far, members[1].v, func() tls.Certificate { return members[1].cert }, nil)
		b = acc.Dedicated
		served <- err
	}()
	a, err := ClientDedicated(t.Context(), near, members[0].v, members[0].cert, members[1].id)
	if serr := <-served; serr != nil || err != nil {
		t.Fatal(serr, err)
	}
	t.Cleanup(func() { a.Reset(); b.Reset() })
	return a, b
}

func pipeDedicated(t testing.TB) (a, b *Dedicated) {
	near, far := net.Pipe() // which holds nothing
	return dedicatedOver(t, near, far)
}

func TestTheEndWaitsForAReaderThatPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pipeDedicated(t)
		ended := make(chan error, 1)
		go func() { ended <- a.CloseWrite() }()
		<-time.After(time.Minute)
		if got, err := io.ReadAll(b); err != nil || len(got) > 0 {
			t.Errorf("read %q, %v", got, err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestADedicatedConnectionEndsWhenItsPeerSaysSo(t *testing.T) {
	a, b, _ := dedicated(t)
	if _, err := a.Write([]byte("all of it")); err != nil {
		t.Fatal(err)
	}
	if err := a.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(b)
	if err != nil || string(got) != "all of it" {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestADedicatedConnectionWhosePathEndsWasCut(t *testing.T) {
	a, b, path := dedicated(t)
	if _, err := a.Write([]byte("half of it")); err != nil {
		t.Fatal(err)
	}
	// Between two records, as a hub can, or the kernel of a peer that was killed.
	if err := path.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(b); err == nil {
		t.Errorf("read %q as if it were all", got)
	}
}

func TestOneWriteOfManyRecordsIsOneWriteOnThePath(t *testing.T) {
	a, _, _ := dedicated(t)
	path := &tap{Conn: a.batch.Conn.Conn}
	a.batch.Conn.Conn = path
	if _, err := a.Write(make([]byte, 2*gather.Record)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(1, path.writes); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
