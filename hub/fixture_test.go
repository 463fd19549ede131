package hub

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/hub/state"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// timeout is how long a test waits for what must happen.
const timeout = 60 * time.Second

// testHub is a hub that runs, and the mesh it founded.
type testHub struct {
	t       testing.TB
	config  Config
	started Started
	ca      *identity.CA
	log     *appstest.Buffer
	stop    func() error // ends the hub and returns what Run returned; may be called again
}

// start runs a new hub in a directory of its own.
func start(t testing.TB, options ...func(*Config)) *testHub {
	t.Helper()
	return startIn(t, t.TempDir(), options...)
}

// startIn runs a hub in a directory.
func startIn(t testing.TB, dir string, options ...func(*Config)) *testHub {
	t.Helper()
	return startWith(t, nil, dir, options...)
}

// startWith runs a hub of the mesh of a CA, or if that is nil, of the mesh whose root permit it has.
func startWith(t testing.TB, ca *identity.CA, dir string, options ...func(*Config)) *testHub {
	t.Helper()
	h := &testHub{t: t, log: &appstest.Buffer{}}
	h.config = Config{
		Data: dir, Listen: "127.0.0.1:0", Names: []string{"hub.test:8888"}, Version: "test", Drain: time.Second,
		Log: slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, o := range options {
		o(&h.config)
	}
	up := make(chan Started, 1)
	h.config.Started = func(s Started) { up <- s }
	hub, err := New(h.config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- hub.Run(ctx) }()
	select {
	case h.started = <-up:
	case err := <-done:
		t.Fatalf("the hub did not start: %v", err)
	case <-time.After(timeout):
		t.Fatal("the hub did not start")
	}
	h.stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(timeout):
			return errors.New("the hub does not stop")
		}
	})
	t.Cleanup(func() {
		if err := h.stop(); err != nil {
			t.Error(err)
		}
	})
	if h.ca = ca; ca != nil {
		return h
	}
	_, h.ca, err = state.ReadRoot(hub.config.Permit)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *testHub) address() string { return h.started.Address.String() }

// founded is an option: the hub becomes one of the mesh of a CA.
func founded(t testing.TB, ca *identity.CA) func(*Config) {
	return func(c *Config) {
		c.Permit = filepath.Join(t.TempDir(), "root.json")
		if err := state.WritePermit(c.Permit, ca, c.Names); err != nil {
			t.Fatal(err)
		}
	}
}

// metric returns a counter of a hub that was started with Config.Metrics; -1 if there is none of
// the name.
func (h *testHub) metric(name string) int64 {
	h.t.Helper()
	resp, err := http.Get("http://" + h.started.Metrics.String() + "/metrics")
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if v, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil {
				h.t.Fatal(err)
			}
			return n
		}
	}
	return -1
}

// device is a device with a certificate of the hub's mesh.
type device struct {
	hub      *testHub
	user     string
	key      ed25519.PrivateKey
	cert     tls.Certificate
	id       identity.ID
	verifier *identity.Verifier
	clock    unixtime.Millis // time of the last record
}

// device makes a device of a user.
func (h *testHub) device(user string) *device {
	h.t.Helper()
	return h.deviceAt(user, time.Now(), time.Now())
}

// deviceAt makes a device whose user was admitted at a time and whose certificate was signed at a
// time.
func (h *testHub) deviceAt(user string, admitted, now time.Time) *device {
	h.t.Helper()
	d := h.unjoined(user)
	der, err := h.ca.SignMember(publicKey(d.key), user, admitted, now)
	if err != nil {
		h.t.Fatal(err)
	}
	d.cert = identity.TLSCertificate(der, d.key)
	return d
}

// unjoined makes a device without a certificate.
func (h *testHub) unjoined(user string) *device {
	h.t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		h.t.Fatal(err)
	}
	trust, err := identity.NewTrust(h.ca.CertificatePEM())
	if err != nil {
		h.t.Fatal(err)
	}
	return &device{
		hub: h, user: user, key: key, id: identity.IDOf(publicKey(key)),
		verifier: identity.NewVerifier(trust, identity.NewClock()),
	}
}

func (d *device) config(proto string) *tls.Config {
	return d.verifier.ClientConfig(d.cert, identity.RoleHub, d.hub.started.ID, proto)
}

// tls13 opens a control connection without a session on it.
func tls13(d *device) (*tls.Conn, error) {
	c, err := tls.Dial("tcp", d.hub.address(), d.config(tunnel.ControlProto))
	if err != nil {
		return nil, err
	}
	return c, nil
}

// dial opens a control session.
func (d *device) dial() (*tunnel.Session, error) {
	return tunnel.Open(context.Background(), &tunnel.Dialer{}, d.hub.address(), d.config(tunnel.ControlProto))
}

// session opens a control session that ends with the test.
func (d *device) session() *tunnel.Session {
	d.hub.t.Helper()
	s, err := d.dial()
	if err != nil {
		d.hub.t.Fatal(err)
	}
	d.hub.t.Cleanup(func() { s.Close() })
	return s
}

// record returns a signed record of the device, newer than the one before.
func (d *device) record(name string, change ...func(*identity.Record)) []byte {
	d.hub.t.Helper()
	d.clock = max(d.clock+1, unixtime.MillisOf(time.Now()))
	r := identity.Record{ID: d.id, Name: name, Time: d.clock, Certificate: d.cert.Certificate[0], Version: "test"}
	for _, c := range change {
		c(&r)
	}
	doc, err := identity.SignRecord(r, d.key)
	if err != nil {
		d.hub.t.Fatal(err)
	}
	return doc
}

func (d *device) put(s *tunnel.Session, doc []byte) error {
	return s.Call(context.Background(), "PUT", tunnel.PathEndpoints+"/"+string(d.id), nil, doc, nil)
}

// online is a device that is registered and reads its events.
type online struct {
	*device
	*tunnel.Session
	events chan tunnel.Event
	ended  chan struct{} // closed when the stream is
}

// online registers a device under a name and opens its events.
func (d *device) online(name string, change ...func(*identity.Record)) *online {
	d.hub.t.Helper()
	s := d.session()
	if err := d.put(s, d.record(name, change...)); err != nil {
		d.hub.t.Fatal(err)
	}
	o := d.listen(s)
	if e := o.next(tunnel.EventReady); e.Type == "" {
		d.hub.t.Fatal("no ready event")
	}
	return o
}

// listen opens the events of a session.
func (d *device) listen(s *tunnel.Session) *online {
	o := &online{device: d, Session: s, events: make(chan tunnel.Event, 1024), ended: make(chan struct{})}
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(o.ended)
		s.Events(context.Background(), func(e tunnel.Event) { o.events <- e })
	})
	d.hub.t.Cleanup(func() { s.Close(); wg.Wait() })
	return o
}

// next returns the next event of a type, skipping others; the zero value if the stream ends before.
func (o *online) next(typ tunnel.EventType) tunnel.Event {
	o.hub.t.Helper()
	late := time.After(timeout)
	for {
		select {
		case e := <-o.events:
			if e.Type == typ {
				return e
			}
		case <-o.ended:
			return tunnel.Event{}
		case <-late:
			o.hub.t.Fatalf("no %s event", typ)
		}
	}
}

// carry opens a leg of a path on a connection of its own.
func (d *device) carry(peer identity.ID, ticket string) (net.Conn, error) {
	leg, err := tunnel.DialRelay(context.Background(), &tunnel.Dialer{}, d.hub.address(), d.config(tunnel.RelayProto))
	if err != nil {
		return nil, err
	}
	return leg.Connect(context.Background(), peer, ticket)
}

// answer answers every dial-back of an endpoint and gives the connections to serve, until the
// events end.
func (o *online) answer(serve func(net.Conn)) {
	o.answerTo(func(identity.ID) bool { return true }, serve)
}

// answerTo is answer for the dial-backs of some peers.
func (o *online) answerTo(some func(identity.ID) bool, serve func(net.Conn)) {
	var wg sync.WaitGroup
	o.hub.t.Cleanup(func() { o.Session.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			select {
			case e := <-o.events:
				if e.Type != tunnel.EventDialBack || !some(e.Peer) {
					continue
				}
				wg.Go(func() {
					c, err := o.carry(o.id, e.Ticket)
					if err != nil {
						return
					}
					defer c.Close()
					serve(c)
				})
			case <-o.ended:
				return
			}
		}
	})
}

// echo sends back what it reads, and the end as well.
func echo(c net.Conn) {
	io.Copy(c, c)
	if w, ok := c.(interface{ CloseWrite() error }); ok {
		w.CloseWrite()
	}
}

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	late := time.After(timeout)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-late:
			t.Fatalf("not within %v: %s", timeout, what)
		case <-tick.C:
		}
	}
}

// wait waits for a channel to be closed.
func wait(t testing.TB, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(timeout):
		t.Fatalf("not within %v: %s", timeout, what)
	}
}

// wantRefusal checks that an error is a refusal of the hub with a status and a part of its message.
func wantRefusal(t testing.TB, err error, status int, part string) {
	t.Helper()
	var r *answer.Error
	if !errors.As(err, &r) {
		t.Fatalf("got %v, want a refusal with status %d", err, status)
	}
	if r.Status() != status || !bytes.Contains([]byte(r.Message), []byte(part)) {
		t.Fatalf("got %d %s %q, want status %d and a message with %q", r.Status(), r.Code, r.Message, status, part)
	}
}

// names lists the directory.
func names(t testing.TB, s *tunnel.Session) []string {
	t.Helper()
	var page tunnel.Page
	if err := s.Call(t.Context(), "GET", tunnel.PathEndpoints, nil, nil, &page); err != nil {
		t.Fatal(err)
	}
	return recordNames(t, page)
}

func recordNames(t testing.TB, page tunnel.Page) []string {
	t.Helper()
	list := []string{}
	for _, e := range page.Entries {
		name := bytes.SplitN(e.Record, []byte(`"name":"`), 2)
		if len(name) != 2 {
			t.Fatalf("a record without a name: %s", e.Record)
		}
		list = append(list, string(name[1][:bytes.IndexByte(name[1], '"')]))
	}
	if !slices.IsSorted(list) {
		t.Errorf("the listing is not sorted: %q", list)
	}
	return list
}

// contains reports whether text has all the parts.
func contains(text string, parts ...string) bool {
	for _, p := range parts {
		if !strings.Contains(text, p) {
			return false
		}
	}
	return true
}

// testLog is a log that shows when the test fails.
func testLog(t testing.TB) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

func read(t testing.TB, path ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
