package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"ztm/tunnel/identity/document"
	"ztm/tunnel/unixtime"
)

// Trust is what a device trusts in a mesh: the mesh's CAs, and who was evicted. It begins with one
// CA, from a permit, and version 0: nobody evicted. From then on it only ever moves to a newer
// signed list, see [Trust.Update]. A Trust is immutable; all methods may be called from any
// goroutine.
type Trust struct {
	list    list
	doc     []byte                      // nil at version 0
	cas     []*x509.Certificate         // those of the list, newest first
	ids     []ID                        // theirs, see [CA.ID]
	evicted map[string]unixtime.Seconds // by user, see eviction
	devices map[ID]unixtime.Seconds     // evicted endpoints and hubs, the same way
	sum     string                      // of doc, see [SumOf]
}

// NewTrust returns the trust that begins with a CA's certificate: version 0, nobody evicted.
func NewTrust(caPEM []byte) (*Trust, error) {
	cert, mesh, err := parseCACertificate(caPEM)
	if err != nil {
		return nil, err
	}
	return &Trust{
		list: list{Mesh: mesh, CAs: []listCA{{Certificate: cert.Raw}}},
		cas:  []*x509.Certificate{cert},
		ids:  []ID{IDOf(publicKey(cert))},
	}, nil
}

// ParseTrust returns the trust of a stored document, verified from a CA that is trusted already,
// that of the permit. An empty document is version 0.
func ParseTrust(caPEM []byte, doc []byte) (*Trust, error) {
	t, err := NewTrust(caPEM)
	if err != nil {
		return nil, err
	}
	return t.Update(doc)
}

// Mesh returns the ID of the mesh.
func (t *Trust) Mesh() ID { return t.list.Mesh }

// Version returns the version of the list; 0 in a mesh that never changed its trust.
func (t *Trust) Version() uint64 { return t.list.Version }

// Document returns the signed list to keep and to pass on; nil at version 0. The caller must not
// change it.
func (t *Trust) Document() []byte { return t.doc }

// sumBytes is how much of its hash tells a list from others.
const sumBytes = 8

// SumOf returns the beginning of a document's SHA-256 hash, in hex.
func SumOf(doc []byte) string {
	sum := sha256.Sum256(doc)
	return hex.EncodeToString(sum[:sumBytes])
}

// Head names a list among all of a mesh: two devices compare theirs by it. The sum may be missing.
type Head struct {
	Version uint64
	Sum     string
}

// Head returns the head of the list.
func (t *Trust) Head() Head { return Head{t.list.Version, t.sum} }

// Same reports whether two heads are of one list, as far as they say.
func (h Head) Same(other Head) bool {
	return h.Version == other.Version && (h.Sum == other.Sum || h.Sum == "" || other.Sum == "")
}

// String is the form in a header: the version, and after a dash the sum.
func (h Head) String() string { return strconv.FormatUint(h.Version, 10) + "-" + h.Sum }

// ParseHead reads what [Head.String] wrote.
func ParseHead(s string) (Head, error) {
	version, sum, _ := strings.Cut(s, "-")
	n, err := strconv.ParseUint(version, 10, 64)
	if b, bad := hex.DecodeString(sum); err != nil || bad != nil || sum != "" && len(b) != sumBytes {
		return Head{}, failf(ErrTrust, "%.40q does not name a trust list", s)
	}
	return Head{n, sum}, nil
}

// Issued returns when the list was signed, to the second; the zero time at version 0.
func (t *Trust) Issued() time.Time {
	if t.list.Version == 0 {
		return time.Time{}
	}
	return t.list.Issued.Time()
}

// CAs returns the certificates of the mesh's CAs, newest first, retired ones included. The caller
// must not change the certificates.
func (t *Trust) CAs() []*x509.Certificate { return slices.Clone(t.cas) }

// Newest returns the ID of the mesh's newest CA, the only one that signs (see [CA.ID]): a [Subject]
// with another issuer has to get a new certificate, see [Trust.Retires].
func (t *Trust) Newest() ID { return t.ids[0] }

// Retires returns from when on certificates of an issuer are accepted no more because the mesh
// replaced the CA; the zero time for the newest CA, and for one that is not known.
func (t *Trust) Retires(issuer ID) time.Time {
	if i := slices.Index(t.ids, issuer); i > 0 {
		return t.list.CAs[i].Retire.Time()
	}
	return time.Time{}
}

// NextRetirement returns when the next CA of the mesh retires, from a time on; the zero time if
// none does.
func (t *Trust) NextRetirement(now time.Time) (next time.Time) {
	for _, ca := range t.list.CAs[1:] {
		if at := ca.Retire.Time(); at.After(now) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

// Update returns the trust that a document gives, and t itself if that is what t has. The document
// must be signed by the CA that t trusts as the newest, or by one that followed it, and must hold
// every eviction that t holds. Of two such documents of one version the one with more evictions
// counts, and of equal ones that with the greater hash, so that all devices end at the same one.
// Errors match [ErrRollback] where the document has nothing new, [ErrFork] where each of the two
// has an eviction that the other lacks (see [Trust.Unite]), [ErrWrongMesh], [ErrUntrusted] or
// [ErrTrust].
func (t *Trust) Update(doc []byte) (*Trust, error) {
	if bytes.Equal(doc, t.doc) {
		return t, nil
	}
	if len(doc) == 0 {
		return nil, failf(ErrRollback, "roll-back refused: trust list version %d is in force, got none", t.list.Version)
	}
	next, err := t.open(doc)
	if err != nil {
		return nil, err
	}
	follows := next.follows(t)
	news := !t.Holds(next) || follows && next.Newest() != t.Newest()
	switch {
	case !follows && !news:
		return nil, errNotFollowing
	case follows && next.Holds(t) && next.precedes(t, news):
		return next, nil
	case !news && next.list.Version <= t.list.Version:
		return nil, failf(ErrRollback, "roll-back refused: trust list version %d is in force, got another of version %d",
			t.list.Version, next.list.Version)
	}
	return nil, failf(ErrFork, "two trust lists of this mesh differ: version %d is in force, and version %d lacks evictions of it or was made beside it. "+
		"An endpoint that holds the mesh's CA key unites them", t.list.Version, next.list.Version)
}

// precedes reports whether t, which holds all evictions of an old list, takes its place; news says
// whether it holds more.
func (t *Trust) precedes(old *Trust, news bool) bool {
	if t.list.Version != old.list.Version {
		return t.list.Version > old.list.Version
	}
	return news || t.sum > old.sum
}

// follows reports whether the newest CA of t is that of old, or one that came after it.
func (t *Trust) follows(old *Trust) bool { return slices.Contains(t.ids, old.Newest()) }

var errNotFollowing = failf(ErrUntrusted, "trust list comes from a CA that does not follow the one trusted here")

// open reads a list that a CA of this mesh has signed: the newest that t knows, one that followed
// it, or one before it. It does not say that the list is to be taken.
func (t *Trust) open(doc []byte) (*Trust, error) {
	if len(doc) > MaxTrust {
		return nil, failf(ErrTrust, "trust list is larger than %d bytes", MaxTrust)
	}
	cas, err := t.authenticate(doc)
	if err != nil {
		return nil, err
	}
	next := &Trust{doc: bytes.Clone(doc), cas: cas}
	if _, err := document.Parse(next.doc, &next.list); err != nil {
		return nil, failf(ErrTrust, "trust list: %v", err)
	}
	if err := next.list.checkEvictions(); err != nil {
		return nil, err
	}
	for _, ca := range next.cas {
		next.ids = append(next.ids, IDOf(publicKey(ca)))
	}
	next.evicted, next.devices = map[string]unixtime.Seconds{}, map[ID]unixtime.Seconds{}
	for _, e := range next.list.Evictions {
		if e.User != "" {
			next.evicted[e.User] = e.Admitted
		} else {
			next.devices[e.ID] = e.Admitted
		}
	}
	next.sum = SumOf(next.doc)
	return next, nil
}

// authenticate returns the CAs of a document once it knows that the newest of them has signed it,
// and that t knows it or it follows the one that t trusts. It reads no further than the CAs: the
// evictions, of which anybody can send megabytes, are parsed after that.
func (t *Trust) authenticate(doc []byte) ([]*x509.Certificate, error) {
	signed, err := document.Split(doc)
	if err != nil {
		return nil, failf(ErrTrust, "trust list: %v", err)
	}
	head, err := parseHead(signed.Payload)
	if err != nil {
		return nil, failf(ErrTrust, "trust list: %v", err)
	}
	if head.Mesh != t.list.Mesh {
		return nil, failf(ErrWrongMesh, "trust list of another mesh: %s, not %s", head.Mesh, t.list.Mesh)
	}
	cas, err := head.checkCAs()
	if err != nil {
		return nil, err
	}
	older := slices.ContainsFunc(t.cas[1:], func(c *x509.Certificate) bool { return bytes.Equal(c.Raw, cas[0].Raw) })
	if !older && !head.leads(cas, t.cas[0]) {
		if slices.ContainsFunc(t.cas, func(c *x509.Certificate) bool { return bytes.Equal(c.Raw, cas[len(cas)-1].Raw) }) {
			return nil, failf(ErrUntrusted, "trust list comes from a CA that does not follow the one trusted here: "+
				"two CAs were put in the place of one. Devices of the other one need new permits")
		}
		return nil, errNotFollowing
	}
	if !signed.Verify(listContext, publicKey(cas[0])) {
		return nil, failf(ErrUntrusted, "trust list has no valid signature")
	}
	return cas, nil
}

// Evict returns the next version of the list, in which the user is evicted: every certificate of
// the user that was admitted until now is void. The admission times of certificates of the user
// that the caller knows of are covered too, also where they lie ahead of this device's clock. ca
// must be the mesh's newest CA.
//
// Where two holders of the CA evict at a time, both make the same version and only one of them can
// win: the caller publishes the list first, and where that is refused with [ErrFork] unites the
// two, see [Trust.Unite].
func (t *Trust) Evict(ca *CA, user string, now time.Time, admitted ...time.Time) (*Trust, error) {
	if err := CheckName(user); err != nil {
		return nil, fmt.Errorf("user: %w", err)
	}
	upTo := now
	for _, a := range admitted {
		if a.After(upTo) {
			upTo = a
		}
	}
	return t.EvictAll(ca, now, Eviction{User: user, Admitted: upTo})
}

// EvictAll returns the next version of the list, in which evictions hold as well. Each reaches to
// now at least, and to its Admitted, if that is later. It is otherwise as [Trust.Evict].
func (t *Trust) EvictAll(ca *CA, now time.Time, evictions ...Eviction) (*Trust, error) {
	next := t.list.clone()
	for _, e := range evictions {
		p := e.unchecked()
		// One later than the last eviction, if this clock is behind: see Admission.
		p.Admitted = max(p.Admitted, unixtime.Of(now), 1, t.reach(p)+1)
		if !p.check() {
			return nil, failf(ErrTrust, "an eviction of user %.80q or endpoint %.80q is malformed", e.User, e.ID)
		}
		next.Evictions = unite(next.Evictions, []eviction{p})
	}
	return t.issue(next, ca, ca, now)
}

// reach is up to when a user or an ID is evicted; 0 if it is not.
func (t *Trust) reach(e eviction) unixtime.Seconds {
	if e.User != "" {
		return t.evicted[e.User]
	}
	return t.devices[e.ID]
}

// Unite returns the list that holds the evictions of t and of the documents, under a version above
// all of theirs: the way out of [ErrFork]. It is t itself if t has all of that already. A document
// must be one of this mesh, signed by its newest CA, by one that followed it, or by one before it
// that has not retired yet. ca must be the newest CA of all. As with [Trust.Evict] the caller
// publishes the list first.
func (t *Trust) Unite(ca *CA, now time.Time, docs ...[]byte) (*Trust, error) {
	base, evictions, version := t, t.list.Evictions, t.list.Version
	for _, doc := range docs {
		if len(doc) == 0 || bytes.Equal(doc, t.doc) {
			continue
		}
		other, err := t.open(doc)
		if err != nil {
			return nil, err
		}
		if err := t.mayUnite(other, now); err != nil {
			return nil, err
		}
		if other.follows(base) && (other.Newest() != base.Newest() || other.precedes(base, false)) {
			base = other
		}
		evictions = unite(evictions, other.list.Evictions)
		version = max(version, other.list.Version)
	}
	if base.list.Version == version && contains(base.list.Evictions, evictions) {
		return base, nil
	}
	l := base.list.clone()
	l.Evictions, l.Version = evictions, version
	return base.issue(l, ca, ca, now)
}

// Unites reports whether the list of a document is one that [Trust.Unite] takes now.
func (t *Trust) Unites(doc []byte, now time.Time) bool {
	other, err := t.open(doc)
	return err == nil && t.mayUnite(other, now) == nil
}

// mayUnite refuses the list of a CA that has retired: its key may have been stolen.
func (t *Trust) mayUnite(other *Trust, now time.Time) error {
	if other.follows(t) {
		return nil
	}
	return t.checkCA(other.Newest(), now)
}

// Rotate returns the next version of the list, in which next (see [CA.Successor]) is the mesh's CA.
// Certificates that ca or one before it signed are accepted until retire at most, so hubs and
// members have until then to renew theirs. ca must be the newest CA. As with [Trust.Evict] the
// caller publishes the list first.
func (t *Trust) Rotate(ca *CA, next *CA, retire time.Time, now time.Time) (*Trust, error) {
	if ca == nil || next == nil {
		return nil, ErrNoCA
	}
	if next.mesh != t.list.Mesh {
		return nil, failf(ErrWrongMesh, "the next CA is of another mesh: %s, not %s", next.mesh, t.list.Mesh)
	}
	l := t.list.clone()
	l.CAs[0].Retire = max(unixtime.Of(retire), 1)
	for i := range l.CAs[1:] {
		l.CAs[i+1].Retire = min(l.CAs[i+1].Retire, l.CAs[0].Retire)
	}
	l.CAs = slices.Insert(l.CAs, 0, listCA{
		Certificate: next.cert.Raw,
		Endorsement: ed25519.Sign(ca.private(), endorsement(l.Mesh, next.cert.Raw)),
	})
	return t.issue(l, ca, next, now)
}

// issue signs a list as the successor of t. holder must be the newest CA of t; signer is that of
// the list.
func (t *Trust) issue(l list, holder, signer *CA, now time.Time) (*Trust, error) {
	if holder == nil {
		return nil, ErrNoCA
	}
	if !bytes.Equal(holder.cert.Raw, t.cas[0].Raw) {
		return nil, failf(ErrNoCA, "the CA key held here is not that of the mesh's newest CA")
	}
	if err := checkDates(signer.cert.NotBefore, signer.cert.NotAfter, now); err != nil {
		return nil, fmt.Errorf("the mesh's CA: %w", err)
	}
	l.Version++ // it is that of t, or a later one that it unites
	l.Issued = max(unixtime.Of(now), t.list.Issued)
	doc, err := document.Sign(listContext, l, signer.private())
	if err == nil && len(doc) > MaxTrust {
		doc, err = document.Sign(listContext, l.withoutNotes(), signer.private())
	}
	if err != nil {
		return nil, fmt.Errorf("signing the trust list: %v", err)
	}
	return t.Update(doc) // checks what we made as everybody else will
}

// Evicted reports whether the subject's user, or the endpoint or hub itself, was evicted after the
// subject was admitted. Hubs have no user.
func (t *Trust) Evicted(s Subject) bool {
	return s.Role == RoleMember && t.Voids(s.User, s.Admitted) || t.VoidsID(s.ID, s.Admitted)
}

// VoidsID reports whether an endpoint or a hub was evicted after an admission.
func (t *Trust) VoidsID(id ID, admitted time.Time) bool {
	upTo, ok := t.devices[id]
	return ok && unixtime.Of(admitted) <= upTo
}

// Voids reports whether a user was evicted after an admission: what was granted to the one who was
// admitted then is not for the next of that name.
func (t *Trust) Voids(user string, admitted time.Time) bool {
	upTo, ok := t.evicted[user]
	return ok && unixtime.Of(admitted) <= upTo
}

// Evictions returns all evictions: users by name, then endpoints and hubs.
func (t *Trust) Evictions() []Eviction {
	all := make([]Eviction, len(t.list.Evictions))
	for i, e := range t.list.Evictions {
		all[i] = e.public()
	}
	return all
}

// Holds reports whether t holds every eviction of another list, and each reaches as far.
func (t *Trust) Holds(other *Trust) bool { return contains(t.list.Evictions, other.list.Evictions) }

// Admission returns the admission time that a new invitation of the user must carry: now, or for a
// user who was evicted the first second after that, if now is not later. The same holds for the devices
// that are invited, where they are known.
func (t *Trust) Admission(user string, now time.Time, devices ...ID) time.Time {
	seconds := max(unixtime.Of(now), 1, t.evicted[user]+1)
	for _, id := range devices {
		seconds = max(seconds, t.devices[id]+1)
	}
	return seconds.Time()
}

// checkCA checks that an issuer is accepted now.
func (t *Trust) checkCA(issuer ID, now time.Time) error {
	i := slices.Index(t.ids, issuer)
	if i < 0 {
		return failf(ErrUntrusted, "certificate is not signed by the CA of mesh %s", t.list.Mesh)
	}
	if retire := t.list.CAs[i].Retire; retire != 0 && unixtime.Of(now) >= retire {
		return failf(ErrExpired, "certificate is of a CA that the mesh replaced; it was accepted until %s",
			unixtime.Text(retire.Time()))
	}
	if err := checkDates(t.cas[i].NotBefore, t.cas[i].NotAfter, now); err != nil {
		return fmt.Errorf("the mesh's CA: %w", err)
	}
	return nil
}

func (l *list) clone() list {
	c := *l
	c.CAs, c.Evictions = slices.Clone(l.CAs), slices.Clone(l.Evictions)
	return c
}
