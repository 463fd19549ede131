package cli

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/apps/file"
	"ztm/tunnel/answer"
)

// Kinds of frames that a hostile sender writes or reads: see apps/file/transfer.
const (
	kindEntry = 0x01
	kindData  = 0x03
	kindSum   = 0x06
	kindDone  = 0x09
	kindFinal = 0x84
)

func frame(kind uint32, payload []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, kind<<24|uint32(len(payload))), payload...)
}

// entry announces a file ("f") or a directory ("d").
func entry(depth int, name, kind string, size int) []byte {
	b, _ := json.Marshal(map[string]any{"d": depth, "n": apps.Bytes(name), "t": kind, "s": size, "m": 0o700})
	return frame(kindEntry, b)
}

// content is a small file with its announcement.
func content(depth int, name, text string) []byte {
	b := append(entry(depth, name, "f", len(text)), frame(kindData, []byte(text))...)
	return append(b, frame(kindSum, binary.BigEndian.AppendUint32(nil, crc32.Checksum([]byte(text), crc32.MakeTable(crc32.Castagnoli))))...)
}

// offer offers to the office what bob's own command would not, and sends frames at once, unasked.
func (m *mesh) offer(items []file.Item, frames ...[]byte) net.Conn {
	m.t.Helper()
	conn, err := m.phone.Open(m.t.Context(), m.office.Self().ID, "file/inbox", nil)
	if err != nil {
		m.t.Fatal(err)
	}
	late := time.AfterFunc(appstest.Timeout, func() { conn.Close() })
	m.t.Cleanup(func() { late.Stop(); conn.Close() })
	b, err := json.Marshal(items)
	if err != nil {
		m.t.Fatal(err)
	}
	b = append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
	for _, f := range frames {
		b = append(b, f...)
	}
	go conn.Write(b) // ends with the flow
	return conn
}

// reply reads the answer to an offer.
func (m *mesh) reply(conn net.Conn) *answer.Error {
	m.t.Helper()
	var text []byte
	for one := make([]byte, 1); len(text) == 0 || text[len(text)-1] != '\n'; text = append(text, one[0]) {
		if _, err := io.ReadFull(conn, one); err != nil {
			m.t.Fatalf("no answer to the offer: %v", err)
		}
	}
	var r struct{ Error *answer.Error }
	if err := json.Unmarshal(text, &r); err != nil {
		m.t.Fatal(err)
	}
	return r.Error
}

// final waits for the report of a receiver, or the end of the flow.
func final(conn net.Conn) error {
	for {
		var head [4]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return err
		}
		if _, err := io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(head[:])&0xffffff)); err != nil || head[0] == kindFinal {
			return err
		}
	}
}

// waiting returns the one offer that waits, once it does.
func (m *mesh) waiting() file.Offer {
	m.t.Helper()
	var offers []file.Offer
	appstest.Eventually(m.t, "it is offered", func() bool {
		return m.office.API("GET", "file/offers", nil, &offers) == nil && len(offers) == 1
	})
	return offers[0]
}

// tree is the text of every file that is there; a directory has none.
func (m *mesh) tree() map[string]string {
	m.t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(m.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			all[path] = ""
			return err
		}
		b, err := os.ReadFile(path)
		all[path] = string(b)
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return all
}

func (m *mesh) unchanged(when string, before map[string]string) {
	m.t.Helper()
	if diff := cmp.Diff(before, m.tree()); diff != "" {
		m.t.Errorf("%s (-before +after):\n%s", when, diff)
	}
}

// mayOffer lets bob offer to the office, where files of much-wanted names are already.
func mayOffer(t *testing.T) *mesh {
	m := newMesh(t)
	for _, dir := range []string{"", "inbox/", "inbox/bob/"} {
		for _, name := range []string{".bashrc", ".ssh/x", ".ssh/authorized_keys", "authorized_keys", "gift"} {
			m.write(dir+name, "mine")
		}
	}
	m.good(m.office, "inbox", "--dir", m.path("inbox"), "--add-user", "bob")
	t.Cleanup(func() { // the app does not end while somebody is asked
		var left []file.Offer
		m.office.API("GET", "file/offers", nil, &left)
		for _, o := range left {
			m.office.API("POST", "file/offers/"+o.ID, file.Decision{}, nil)
		}
	})
	return m
}

func TestAnInboxRefusesByItselfWhatNobodyCouldConsentTo(t *testing.T) {
	m := mayOffer(t)
	many := make([]file.Item, 1001)
	for i := range many {
		many[i].Path = apps.Bytes(fmt.Sprint(i))
	}
	one := func(path string, size int64) []file.Item { return []file.Item{{Path: apps.Bytes(path), Size: size}} }
	for _, tt := range []struct {
		name  string
		items []file.Item
		code  answer.Code
	}{
		{"more files than a person reads", many, answer.BadRequest},
		{"none", []file.Item{}, answer.BadRequest},
		{"a name that leads up", one("../gift", 1), answer.BadRequest},
		{"one that leads up within", one("a/../../gift", 1), answer.BadRequest},
		{"an absolute name", one(m.path("gift"), 1), answer.BadRequest},
		{"the inbox itself", one("", 1), answer.BadRequest},
		{"a zero byte", one("a\x00b", 1), answer.BadRequest},
		{"a name that acts on a terminal", one("a\x1b[2Jb", 1), answer.BadRequest},
		{"one of our own names", one(".ztm-x.part", 1), answer.BadRequest},
		{"a size below zero", one("x", -1), answer.BadRequest},
		{"a size beyond all", one("x", 1<<62), answer.BadRequest},
		{"a terabyte", one("x", 1<<40), answer.Limit},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := *m
			m.t = t
			before := m.tree()
			conn := m.offer(tt.items)
			if e := m.reply(conn); e == nil || e.Code != tt.code {
				t.Errorf("the answer is %+v", e)
			}
			conn.Close()
			m.unchanged("it was refused", before)
		})
	}
}

func TestTheOwnerSeesEveryNameAndSizeOfAnOffer(t *testing.T) {
	m := mayOffer(t)
	m.good(m.office, "inbox", "--quota", "off")
	items := []file.Item{{Path: ".bashrc", Size: 4}, {Path: ".ssh/x", Size: 1 << 40}, {Path: "authorized_keys", Size: 4}, {Path: "a\u202eb", Size: 4}}
	for i := len(items); i < 1000; i++ {
		items = append(items, file.Item{Path: apps.Bytes(fmt.Sprintf("many/%d-of-them", i)), Size: int64(i)})
	}
	before := m.tree()
	conn := m.offer(items)
	o := m.waiting()
	if diff := cmp.Diff(items, o.Items); diff != "" {
		t.Errorf("the owner is asked about something else (-offered +asked):\n%s", diff)
	}
	lines := map[string]bool{}
	out := m.good(m.office, "inbox")
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		lines[strings.Join(f[max(0, len(f)-2):], " ")] = true
	}
	for _, i := range items {
		if line := fmt.Sprint(i.Size, " ", i.Path); !lines[line] {
			t.Errorf("%q is not shown", line)
		}
	}
	if strings.Contains(out, "\u202e") {
		t.Error("a name reaches the terminal as it is")
	}
	m.unchanged("nobody has consented", before)
	m.good(m.office, "inbox", "--refuse", o.ID)
	if e := m.reply(conn); e == nil || e.Code != answer.Denied {
		t.Errorf("the answer is %+v", e)
	}
	m.unchanged("it was refused", before)
}

func TestAHostileSenderBringsWhatTheOwnerHasSeenAndReplacesNothing(t *testing.T) {
	m := mayOffer(t)
	items := []file.Item{{Path: ".bashrc", Size: 4}, {Path: ".ssh/x", Size: 4}, {Path: ".ssh/authorized_keys", Size: 4},
		{Path: "authorized_keys", Size: 4}, {Path: "gift", Size: 4}, {Path: "small", Size: 4}}
	frames := [][]byte{
		content(0, ".bashrc", "evil"),
		entry(0, ".ssh", "d", 0), content(1, "x", "evil"), content(1, "authorized_keys", "evil"),
		content(1, "rc", "not offered"),
		content(0, "authorized_keys", "evil"), content(0, "gift", "evil"),
		content(0, "gift", "evil again"), content(0, "gift", "2nd."),
		content(0, "small", "larger than offered"),
		content(0, ".profile", "not offered"),
		entry(0, "unseen", "d", 0), content(1, "x", "not offered"),
		frame(kindDone, nil),
	}
	before := m.tree()
	for _, accept := range []string{"--refuse", "--accept"} {
		conn := m.offer(items, frames...)
		id := m.waiting().ID
		m.unchanged("nobody has consented", before)
		m.good(m.office, "inbox", accept, id)
		if e := m.reply(conn); (e == nil) != (accept == "--accept") {
			t.Fatalf("%s: %v", accept, e)
		}
		if accept == "--refuse" {
			m.unchanged("it was refused", before)
			continue
		}
		if err := final(conn); err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	before[m.path("inbox/bob/.ssh-2")] = ""
	for _, name := range []string{".bashrc-2", ".ssh-2/x", ".ssh-2/authorized_keys", "authorized_keys-2", "gift-2"} {
		before[m.path("inbox/bob/"+name)] = "evil"
	}
	m.unchanged("it was accepted", before)
}

func TestAnAcceptedOfferLeadsNowhereButToTheInbox(t *testing.T) {
	m := mayOffer(t)
	for _, name := range []string{"..", "../gift", "../../gift", "a/../../../gift", m.path("gift"), "", "."} {
		before := m.tree()
		conn := m.offer([]file.Item{{Path: "gift", Size: 4}}, content(0, name, "evil"), frame(kindDone, nil))
		m.good(m.office, "inbox", "--accept", m.waiting().ID)
		if e := m.reply(conn); e != nil {
			t.Fatal(e)
		}
		if err := final(conn); err == nil {
			t.Errorf("%q was taken", name)
		}
		conn.Close()
		m.unchanged(fmt.Sprintf("%q came", name), before)
	}
}
