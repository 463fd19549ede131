package link

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/identity"
	"ztm/tunnel/identity/identitytest"
	"ztm/tunnel/unixtime"
)

// followed is a link from another hub, of which a test says what it tells.
type followed struct {
	*follower
	t     *testing.T
	ca    *identity.CA
	other identity.ID // the hub that tells
}

// fakeHost is a hub that knows the keys of all endpoints, and to which none is attached.
type fakeHost struct {
	keys    map[identity.ID]ed25519.PublicKey
	changed *int // how often agents are told of other hubs
}

func (h fakeHost) Attachment(identity.ID) (Attachment, bool)    { return Attachment{}, false }
func (h fakeHost) Attached() []identity.ID                      { return nil }
func (h fakeHost) Key(id identity.ID) ed25519.PublicKey         { return h.keys[id] }
func (h fakeHost) Replace(identity.ID, string, unixtime.Millis) {}
func (h fakeHost) Lost(identity.ID)                             {}
func (h fakeHost) Changed()                                     { *h.changed++ }
func (h fakeHost) key(t *testing.T) (ed25519.PrivateKey, identity.ID) {
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	h.keys[identity.IDOf(public)] = public
	return key, identity.IDOf(public)
}

// hub makes the key, the certificate and the signed record of a hub.
func (f *followed) hub(key ed25519.PrivateKey, id identity.ID) (cert tls.Certificate, doc []byte) {
	f.t.Helper()
	der, err := f.ca.SignHub(key.Public().(ed25519.PublicKey), time.Now())
	if err != nil {
		f.t.Fatal(err)
	}
	doc, err = identity.SignHubRecord(identity.HubRecord{ID: id, Names: []string{"hub.test:1"}, Time: 1, Certificate: der}, key)
	if err != nil {
		f.t.Fatal(err)
	}
	return identity.TLSCertificate(der, key), doc
}

// newFollowed makes the links of a hub that knows another, and one link to that.
func newFollowed(t *testing.T, most int) *followed {
	t.Helper()
	m := identitytest.New(t, time.Now())
	f := &followed{t: t, ca: m.CA}
	host := fakeHost{map[identity.ID]ed25519.PublicKey{}, new(int)}
	ownKey, own := host.key(t)
	cert, _ := f.hub(ownKey, own)
	key, other := host.key(t)
	_, doc := f.hub(key, other)
	l, err := New(Config{
		Own: identity.HubRecord{ID: own, Names: []string{"own.test:1"}}, Key: ownKey, Certificate: func() tls.Certificate { return cert },
		Verifier: m.Verifier(), Known: [][]byte{doc}, Host: host, Most: most, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	f.other = other
	f.follower = &follower{l: l, h: l.hubs[other], wanted: map[identity.ID]struct{}{}, unsure: map[identity.ID]struct{}{}, gone: map[identity.ID]left{}}
	return f
}

// endpoint makes an endpoint, and the event that says that it is attached to the other hub.
func (f *followed) endpoint() (identity.ID, tunnel.LinkEvent) {
	f.t.Helper()
	key, id := f.l.c.Host.(fakeHost).key(f.t)
	doc, err := identity.SignAttach(identity.Attach{ID: id, Hub: f.other, Instance: "x", Since: 1}, key)
	if err != nil {
		f.t.Fatal(err)
	}
	return id, tunnel.LinkEvent{Type: tunnel.LinkUp, ID: id, Instance: "x", Since: 1, Address: "192.0.2.1:1", Attach: doc}
}

// tell has the other hub say something.
func (f *followed) tell(events ...tunnel.LinkEvent) {
	f.t.Helper()
	for _, e := range events {
		if err := f.handle(e); err != nil {
			f.t.Fatal(err)
		}
	}
}

// look does what events have made necessary.
func (f *followed) look() {
	f.t.Helper()
	if err := f.fetch(context.Background()); err != nil {
		f.t.Fatal(err)
	}
}

func TestAnEndpointOfASnapshotThatIsLookedAtBeforeItsEndIsReached(t *testing.T) {
	f := newFollowed(t, 10)
	id, up := f.endpoint()
	f.tell(tunnel.LinkEvent{Type: tunnel.LinkSnapshot, N: 1}, up)
	f.look()
	if got := f.l.Where(id); len(got) > 0 {
		t.Errorf("before the end of the snapshot the endpoint is at %v", got)
	}
	f.tell(tunnel.LinkEvent{Type: tunnel.LinkEnd})
	f.look()
	if got := f.l.Where(id); !slices.Equal(got, []identity.ID{f.other}) {
		t.Errorf("the endpoint is at %v, want at the other hub", got)
	}
}

func TestAgentsAreToldOfAHubThatIsHeardAgain(t *testing.T) {
	f := newFollowed(t, 10)
	told := f.l.c.Host.(fakeHost).changed
	*told = 0
	for range 2 { // a snapshot of a link that stands is nothing new
		f.tell(tunnel.LinkEvent{Type: tunnel.LinkSnapshot}, tunnel.LinkEvent{Type: tunnel.LinkEnd})
		if *told != 1 {
			t.Errorf("agents are told %d times", *told)
		}
	}
}

func TestWhatIsToBeLookedAtOfAHubHasALimit(t *testing.T) {
	const most = 3
	flood := func(f *followed, each func(up tunnel.LinkEvent) error) (err error) {
		for range 3*most + 1 {
			_, up := f.endpoint()
			if err = errors.Join(err, each(up)); err != nil {
				break
			}
		}
		if len(f.unsure) > 2*most {
			t.Errorf("%d attachments wait, want at most %d", len(f.unsure), 2*most)
		}
		return err
	}
	f := newFollowed(t, most)
	if err := flood(f, f.handle); err != nil || len(f.unsure) > 0 {
		t.Errorf("without a snapshot: %v, %d attachments wait, want none", err, len(f.unsure))
	}
	f.tell(tunnel.LinkEvent{Type: tunnel.LinkSnapshot}, tunnel.LinkEvent{Type: tunnel.LinkEnd})
	err := flood(f, func(up tunnel.LinkEvent) error {
		return errors.Join(f.handle(up), f.handle(tunnel.LinkEvent{Type: tunnel.LinkDown, ID: up.ID}))
	})
	if !errors.Is(err, errMany) {
		t.Errorf("endpoints that come and go while nothing is looked at: %v, want %v", err, errMany)
	}
}

func TestAHubThatIsFullMayTellAnewOfAnEndpoint(t *testing.T) {
	f := newFollowed(t, 1)
	id, up := f.endpoint()
	f.tell(tunnel.LinkEvent{Type: tunnel.LinkSnapshot}, up, tunnel.LinkEvent{Type: tunnel.LinkEnd})
	f.look()
	f.tell(up)
	f.look()
	if len(f.l.Where(id)) == 0 {
		t.Error("the endpoint is not reached, want at the other hub")
	}
	if _, another := f.endpoint(); !errors.Is(f.handle(another), errMany) {
		t.Error("one more endpoint than there may be is taken, want refused")
	}
}

func TestAHubWhoseClockWasAheadIsHeardAgain(t *testing.T) {
	f := newFollowed(t, 1)
	l := f.l
	_, end := l.subscribe(f.other)
	defer end()
	if _, told := l.feeds[f.other].take().hubs[f.other]; !told {
		t.Error("a hub is not told which record of it is known, want told")
	}
	ahead := l.own
	ahead.Time = unixtime.MillisOf(time.Now().Add(1000 * time.Hour))
	doc, err := identity.SignHubRecord(ahead, l.c.Key)
	if err != nil {
		t.Fatal(err)
	}
	f.tell(tunnel.LinkEvent{Type: tunnel.LinkHub, Hub: doc})
	now, _, err := l.c.Verifier.HubRecord(l.record(l.own.ID))
	if err != nil || now.Time <= ahead.Time {
		t.Errorf("the record of the hub is of %d (%v), want after %d", now.Time, err, ahead.Time)
	}
	if _, told := l.feeds[f.other].take().hubs[l.own.ID]; !told {
		t.Error("other hubs are not told of the new record, want told")
	}
}

func TestAnEndpointIsReachedWhileAnotherRecordOfItIsFetched(t *testing.T) {
	f := newFollowed(t, 10)
	id, up := f.endpoint()
	all := []tunnel.LinkEvent{{Type: tunnel.LinkSnapshot}, up, {Type: tunnel.LinkEnd}}
	f.tell(all...)
	f.look()
	up.Time = 2
	f.tell(up)
	if len(f.l.Where(id)) == 0 {
		t.Error("after another record the endpoint is not reached, want reached")
	}
	f.tell(all...)
	if len(f.l.Where(id)) == 0 {
		t.Error("after another link the endpoint is not reached, want reached")
	}
	up.Instance = "y"
	f.tell(up)
	if got := f.l.Where(id); len(got) > 0 {
		t.Errorf("with another attachment that was not looked at the endpoint is at %v", got)
	}
	f.look()
	if got := f.l.Where(id); len(got) > 0 {
		t.Errorf("with an attachment that is not what was signed the endpoint is at %v", got)
	}
}
