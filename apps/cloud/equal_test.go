package cloud

import (
	"bytes"
	"io"
	"net"
	"os"
	"testing"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/apps/cloud/blocks"
	"ztm/apps/cloud/entry"
	"ztm/apps/cloud/give"
	"ztm/apps/cloud/index"
	"ztm/apps/cloud/wire"
)

// counted is what a peer may have, and counts what is done to find it.
type counted struct {
	*toPeer
	work int
}

func (c *counted) Open(row index.Row) (*os.File, blocks.List, error) {
	c.work++
	return c.toPeer.Open(row)
}

func (c *counted) Fetched(h blocks.Hash) (int64, blocks.Bitmap, blocks.List, io.ReaderAt) {
	c.work++
	return c.toPeer.Fetched(h)
}

func (c *counted) Suspect(row index.Row) { c.work++ }

func TestWhatOneMayNotHaveIsAnsweredAsWhatIsNotThere(t *testing.T) {
	var n appstest.Net
	alice := newPlace(t, &n, "a", "alice")
	hashOf := func(path string) blocks.Hash {
		k, err := alice.app.index.Get("alice", path)
		if err != nil {
			t.Fatal(err)
		}
		return k.Content().Hash
	}
	alice.publish("shared", random(300_000), "eve")
	alice.publish("private", random(400_000))
	alice.publish("taken away", random(500_000), "eve")
	alice.publish("unpublished", random(600_000), "eve")
	contents := map[string]blocks.Hash{"unknown": {1}, "private": hashOf("private"), "taken away": hashOf("taken away"), "unpublished": hashOf("unpublished")}
	alice.must("POST", "share", ShareChange{Path: "taken away", Remove: []string{"eve"}}, nil)
	alice.must("POST", "unpublish", Named{Path: "unpublished"}, nil)
	peer := apps.Peer{ID: n.Join("e", "eve").Self().ID, User: "eve"}
	ask := func(h blocks.Hash) (answer []byte, work int) {
		near, far := net.Pipe()
		c := &counted{toPeer: &toPeer{a: alice.app, peer: peer}}
		served := make(chan struct{})
		go func() { defer close(served); give.Serve(far, c); far.Close() }()
		go func() {
			for _, op := range []wire.Op{wire.Have, wire.List, wire.Block} {
				for _, number := range []uint32{0, 1, 1<<32 - 1} {
					near.Write(wire.Request{Op: op, Content: h, N: number}.Append(nil))
				}
			}
			near.Write([]byte("no request at all, and longer than one of them is"))
		}()
		answer, _ = io.ReadAll(near)
		near.Close()
		<-served
		return answer, c.work
	}
	want := bytes.Repeat(wire.Answer{Status: wire.NotFound}.Append(nil), 9)
	for name, h := range contents {
		if got, work := ask(h); !bytes.Equal(got, want) || work != 0 {
			t.Errorf("%s: %.60x, and %d looks at files", name, got, work)
		}
	}
	if got, work := ask(hashOf("shared")); len(got) < 200_000 || work == 0 {
		t.Errorf("what one may have: %d bytes, %d looks", len(got), work)
	}
}

func TestTheNextBlockIsRefusedWhereAccessIsTakenAway(t *testing.T) {
	var n appstest.Net
	alice := newPlace(t, &n, "a", "alice")
	alice.publish("x", random(300_000), "eve")
	k, err := alice.app.index.Get("alice", "x")
	if err != nil {
		t.Fatal(err)
	}
	m := join(t, &n, "eve")
	own := m.entry("own", "") // which says that it has the same content
	own.SetContent(k.Content())
	signed, err := entry.Sign(m.Notary, own)
	if err != nil {
		t.Fatal(err)
	}
	if _, refused, err := alice.app.index.Put([]entry.Signed{signed}); len(refused) > 0 || err != nil {
		t.Fatal(refused, err)
	}
	eve := apps.Peer{ID: m.Mesh.Self().ID, User: "eve"}
	near, far := net.Pipe() // which nobody cuts
	defer near.Close()
	go func() { // ends with near
		give.Serve(far, &toPeer{a: alice.app, peer: eve})
		far.Close()
	}()
	for block, want := range []int{wire.OK, wire.NotFound} {
		near.Write(wire.Request{Op: wire.Block, Content: k.Content().Hash, N: uint32(block)}.Append(nil))
		a, err := wire.ReadAnswer(near, blocks.MaxBlock)
		if err != nil || a.Status != want {
			t.Fatalf("block %d: %+v, %v", block, a, err)
		}
		io.CopyN(io.Discard, near, a.Length)
		if block == 0 {
			alice.must("POST", "share", ShareChange{Path: "x", Remove: []string{"eve"}}, nil)
		}
	}
}

func TestAHardLinkToAFileOfAnotherAccountIsPublishedWithAWarning(t *testing.T) {
	var n appstest.Net
	alice := newPlace(t, &n, "a", "alice")
	publish := func(path string) Result {
		t.Helper()
		var results []Result
		alice.must("POST", "publish", Named{Path: path}, &results)
		if len(results) != 1 || results[0].Error != "" {
			t.Fatalf("%+v", results)
		}
		return results[0]
	}
	alice.write("one", []byte("x"))
	if err := os.Link(alice.file("alice", "one"), alice.file("alice", "two")); err != nil {
		t.Skip(err)
	}
	if r := publish("two"); r.Warning != "" {
		t.Errorf("a link of one's own: %+v", r)
	}
	if err := os.Chown(alice.file("alice", "one"), 12345, 12345); err != nil {
		t.Skip("cannot give a file away: ", err)
	}
	if r := publish("one"); r.Warning == "" {
		t.Errorf("a link to another's: %+v", r)
	}
}
