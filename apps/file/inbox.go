package file

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"ztm/apps"
	"ztm/apps/file/transfer"
	"ztm/apps/rooted"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/splice"
)

// Offer is what somebody wants to send, with every name. Nothing of it is here yet.
type Offer struct {
	ID    string      `json:"id"`
	User  string      `json:"user"`
	Peer  identity.ID `json:"peer"`
	Since time.Time   `json:"since"`
	Items []Item      `json:"items"`
	Bytes int64       `json:"bytes"`
}

// Item is one file of an [Offer].
type Item struct {
	Path apps.Bytes `json:"path"` // below the inbox
	Size int64      `json:"size"`
}

// Decision is the answer to an [Offer].
type Decision struct {
	Accept bool `json:"accept"`
}

// Limits of offers.
const (
	maxItems      = 1000
	maxOffer      = 1 << 20 // bytes of JSON
	maxOffers     = 64
	maxUserOffers = 4
	consentTime   = 10 * time.Minute // how long an offer stands
	offerTime     = 30 * time.Second // for a peer to say what it offers
)

// offers are those that wait for a person. The zero value is empty.
type offers struct {
	mu   sync.Mutex
	open map[string]*waiting
}

type waiting struct {
	Offer
	decided chan bool // capacity 1
}

func (o *offers) add(p apps.Peer, items []Item) (*waiting, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	same := 0
	for _, w := range o.open {
		if w.User == p.User {
			same++
		}
	}
	if len(o.open) >= maxOffers || same >= maxUserOffers {
		return nil, answer.Errorf(answer.Limit, "too many offers wait for an answer already")
	}
	w := &waiting{Offer{ID: strings.ToLower(rand.Text()[:8]), User: p.User, Peer: p.ID, Since: time.Now().UTC().Truncate(time.Second), Items: items}, make(chan bool, 1)}
	for _, i := range items {
		w.Bytes += i.Size
	}
	if o.open == nil {
		o.open = map[string]*waiting{}
	}
	o.open[w.ID] = w
	return w, nil
}

func (o *offers) remove(w *waiting) {
	o.mu.Lock()
	delete(o.open, w.ID)
	o.mu.Unlock()
}

// list returns all offers, the oldest first.
func (o *offers) list() []Offer {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := []Offer{}
	for _, w := range o.open {
		list = append(list, w.Offer)
	}
	slices.SortFunc(list, func(a, b Offer) int { return cmp.Or(a.Since.Compare(b.Since), strings.Compare(a.ID, b.ID)) })
	return list
}

func (o *offers) decide(id string, accept bool) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	w := o.open[id]
	if w == nil {
		return answer.Errorf(answer.NotFound, "there is no offer %q", id)
	}
	delete(o.open, id)
	w.decided <- accept
	return nil
}

// inbox takes what a peer offers, once a person has consented to it. The own user's consent is in
// the sending.
func (a *App) inbox(ctx context.Context, f apps.Flow) {
	c, err := a.settings.Get()
	v := &visit{peer: f.Peer(), stop: func() {}, may: func(c Config) error { return a.mayOffer(c, f.Peer()) }}
	if err == nil {
		err = v.may(c)
	}
	var conn net.Conn
	if err == nil {
		conn, err = a.accept(f, v)
	}
	if err != nil {
		a.refuse(f, err)
		return
	}
	defer a.leave(v)
	report, err := a.receive(ctx, f.Peer(), conn, c.Inbox)
	if err != nil {
		conn.Close()
	}
	a.ended(f, report, err)
}

func (a *App) mayOffer(c Config, p apps.Peer) error {
	self := a.host.Mesh.Self()
	if p.User == self.User && p.User != "" || a.host.Names(p, c.Inbox.Users) {
		return nil
	}
	return answer.Errorf(answer.Denied, "user %q may not send files to %s; its owner can allow it with: ztm ep %s file inbox --add-user %s",
		p.User, self.Name, self.Name, p.User)
}

// reply is the line that answers an offer.
type reply struct {
	Error *answer.Error `json:"error,omitempty"`
}

// receive hears an offer, asks for consent, and receives what was offered, and nothing else.
func (a *App) receive(ctx context.Context, p apps.Peer, conn net.Conn, in Inbox) (transfer.Report, error) {
	items, err := hear(conn)
	came := false
	if err == nil {
		var release func(bool)
		if release, err = a.claim(in, p, items); err == nil {
			defer func() { release(came) }()
		}
	}
	if err == nil && p.User != a.host.Mesh.Self().User {
		err = a.ask(ctx, p, items)
	}
	var to *rooted.Dir
	if err == nil {
		to, err = openInbox(in.dir(), p.User)
	}
	var said reply
	if err != nil {
		said.Error = answer.Public(err)
	}
	if b, jerr := json.Marshal(said); jerr == nil {
		conn.Write(append(b, '\n'))
	}
	if err != nil {
		return transfer.Report{}, err
	}
	defer to.Close()
	came = true
	offered := map[string]int64{}
	for _, i := range items {
		offered[string(i.Path)] = i.Size
	}
	return transfer.Receive(conn, transfer.Target{Dir: to}, transfer.Options{Keep: true, Number: true, Hidden: true, Sole: p.User != a.host.Mesh.Self().User,
		Admit: func(path string, size int64) error {
			most, ok := offered[path]
			if delete(offered, path); !ok || size > most {
				return errNotOffered
			}
			return nil
		},
		AdmitDir: func(path string) error {
			if !slices.ContainsFunc(items, func(i Item) bool { return strings.HasPrefix(string(i.Path), path+"/") }) {
				return errNotOffered // who consented saw no such name
			}
			return nil
		}})
}

var errNotOffered = answer.Errorf(answer.Denied, "it was not offered")

// hear reads an offer: its length in four bytes, and so much JSON. What follows is for another reader.
func hear(conn net.Conn) ([]Item, error) {
	late := time.AfterFunc(offerTime, func() { splice.Abort(conn) })
	defer late.Stop()
	var head [4]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return nil, err
	}
	n := int(head[0])<<24 | int(head[1])<<16 | int(head[2])<<8 | int(head[3])
	if n < 2 || n > maxOffer {
		return nil, answer.Errorf(answer.BadRequest, "an offer of %d bytes", n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(conn, b); err != nil {
		return nil, err
	}
	var items []Item
	if err := json.Unmarshal(b, &items); err != nil {
		return nil, answer.Errorf(answer.BadRequest, "the offer: %v", err)
	}
	return items, check(items)
}

func check(items []Item) error {
	if len(items) == 0 || len(items) > maxItems {
		return answer.Errorf(answer.BadRequest, "%d files: offer between 1 and %d, and pack more of them together", len(items), maxItems)
	}
	for _, i := range items {
		if p, err := rooted.ParsePath(string(i.Path)); err != nil || p.IsRoot() || i.Size < 0 || i.Size > transfer.MaxFile {
			return answer.Errorf(answer.BadRequest, "%v cannot be offered", i.Path)
		}
	}
	return nil
}

// ask waits for a person.
func (a *App) ask(ctx context.Context, p apps.Peer, items []Item) error {
	w, err := a.offers.add(p, items)
	if err != nil {
		return err
	}
	defer a.offers.remove(w)
	a.host.Log.Info("file offered", "offer", w.ID, "user", p.User, "peer", p.ID, "files", len(items), "bytes", w.Bytes)
	late := time.NewTimer(consentTime)
	defer late.Stop()
	where := a.host.Mesh.Self().Name
	select {
	case yes := <-w.decided:
		if !yes {
			return answer.Errorf(answer.Denied, "the owner of %s does not want it", where)
		}
		return nil
	case <-late.C:
		return answer.Errorf(answer.Timeout, "the owner of %s has not answered within %v", where, consentTime)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// openInbox opens the directory for what a user sends, and makes it if it is not there.
func openInbox(dir, user string) (*rooted.Dir, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, outward(filepath.Base(dir), err)
	}
	in, err := inboxOf(dir, user, func(d *rooted.Dir, p rooted.Path) (*rooted.Dir, error) { return d.MkdirAt(p, 0o700) })
	if err != nil {
		return nil, outward(filepath.Base(dir), err)
	}
	return in, nil
}

// inboxOf opens the directory of a user in the inbox.
func inboxOf(dir, user string, open func(*rooted.Dir, rooted.Path) (*rooted.Dir, error)) (*rooted.Dir, error) {
	d, err := rooted.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	p, err := rooted.ParsePath(user)
	if err != nil {
		return nil, err
	}
	return open(d, p)
}

// Propose offers files to the inbox at the other end of a flow, waits for the answer, and sends
// them.
func Propose(conn net.Conn, sources []transfer.Source, o transfer.Options) (transfer.Report, error) {
	items, err := Items(sources)
	if err == nil {
		err = say(conn, items)
	}
	if err != nil {
		conn.Close()
		return transfer.Report{}, err
	}
	return transfer.Send(conn, sources, o)
}

// Items lists all that sources have.
func Items(sources []transfer.Source) ([]Item, error) {
	var items []Item
	for _, s := range sources {
		err := s.Files(func(path string, size int64) error {
			if items = append(items, Item{apps.Bytes(path), size}); len(items) > maxItems {
				return fmt.Errorf("more than %d files: pack them together", maxItems)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return items, check(items)
}

func say(conn net.Conn, items []Item) error {
	b, err := json.Marshal(items)
	if err != nil {
		return err
	}
	if len(b) > maxOffer {
		return errors.New("the names are too long for one offer")
	}
	n := len(b)
	if _, err := conn.Write(append([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, b...)); err != nil {
		return err
	}
	var text []byte
	for len(text) < 4<<10 && !bytes.HasSuffix(text, []byte{'\n'}) { // what follows is for another reader
		var one [1]byte
		if _, err := io.ReadFull(conn, one[:]); err != nil {
			return answer.Lost(err)
		}
		text = append(text, one[0])
	}
	var r reply
	if err := json.Unmarshal(text, &r); err != nil {
		return fmt.Errorf("the answer to the offer: %v", err)
	}
	if r.Error != nil {
		return r.Error
	}
	return nil
}
