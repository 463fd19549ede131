package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"fmt"
	"slices"
	"time"
)

// Trust is what a device trusts in a mesh: the mesh's CAs, and who was evicted. It begins with one
// CA, from a permit, and version 0: nobody evicted. From then on it only ever moves to a newer
// signed list, see [Trust.Update]. A Trust is immutable; all methods may be called from any
// goroutine.
type Trust struct {
	list    list
	doc     []byte              // nil at version 0
	cas     []*x509.Certificate // those of the list, newest first
	ids     []ID                // theirs, see [CA.ID]
	evicted map[string]int64    // by user, see eviction
}

// Eviction says that all certificates of a user that were admitted at or before a time are void.
type Eviction struct {
	User     string
	Admitted time.Time
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

// Issued returns when the list was signed, to the second; the zero time at version 0.
func (t *Trust) Issued() time.Time {
	if t.list.Version == 0 {
		return time.Time{}
	}
	return time.Unix(t.list.Issued, 0)
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
		return time.Unix(t.list.CAs[i].Retire, 0)
	}
	return time.Time{}
}

// NextRetirement returns when the next CA of the mesh retires, from a time on; the zero time if
// none does.
func (t *Trust) NextRetirement(now time.Time) (next time.Time) {
	for _, ca := range t.list.CAs[1:] {
		if at := time.Unix(ca.Retire, 0); at.After(now) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

// Update returns the trust that a document gives, and t itself if that is what t has. The document
// must be signed by the CA that t trusts as the newest, or by one that followed it. Errors match
// [ErrRollback] where the document is older than what t has or another of the same version,
// [ErrWrongMesh], [ErrUntrusted] or [ErrTrust].
func (t *Trust) Update(doc []byte) (*Trust, error) {
	if bytes.Equal(doc, t.doc) {
		return t, nil
	}
	if len(doc) == 0 {
		return nil, failf(ErrRollback, "roll-back refused: trust list version %d is in force, got none", t.list.Version)
	}
	if len(doc) > MaxTrust {
		return nil, failf(ErrTrust, "trust list is larger than %d bytes", MaxTrust)
	}
	cas, err := t.authenticate(doc)
	if err != nil {
		return nil, err
	}
	next := &Trust{doc: bytes.Clone(doc), cas: cas}
	if _, err := parseDocument(next.doc, &next.list); err != nil {
		return nil, failf(ErrTrust, "trust list: %v", err)
	}
	if err := next.list.checkEvictions(); err != nil {
		return nil, err
	}
	for _, ca := range next.cas {
		next.ids = append(next.ids, IDOf(publicKey(ca)))
	}
	next.evicted = make(map[string]int64, len(next.list.Evictions))
	for _, e := range next.list.Evictions {
		next.evicted[e.User] = e.Admitted
	}
	return next, nil
}

// authenticate returns the CAs of a newer document once it knows that the newest of them, which
// follows the one that t trusts, has signed the document. It reads no further than the CAs: the
// evictions, of which anybody can send megabytes, are parsed after that.
func (t *Trust) authenticate(doc []byte) ([]*x509.Certificate, error) {
	payload, signature, err := openDocument(doc)
	if err != nil {
		return nil, failf(ErrTrust, "trust list: %v", err)
	}
	head, err := parseHead(payload)
	if err != nil {
		return nil, failf(ErrTrust, "trust list: %v", err)
	}
	if head.Mesh != t.list.Mesh {
		return nil, failf(ErrWrongMesh, "trust list of another mesh: %s, not %s", head.Mesh, t.list.Mesh)
	}
	if head.Version <= t.list.Version {
		return nil, failf(ErrRollback, "roll-back refused: trust list version %d is in force, got another of version %d",
			t.list.Version, head.Version)
	}
	cas, err := head.checkCAs()
	if err != nil {
		return nil, err
	}
	if !head.leads(cas, t.cas[0]) {
		return nil, failf(ErrUntrusted, "trust list comes from a CA that does not follow the one trusted here")
	}
	if !(&signed{payload, signature}).verify(listContext, publicKey(cas[0])) {
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
// win: the caller publishes the list first, and where that is refused with [ErrRollback] evicts
// again from the list that won.
func (t *Trust) Evict(ca *CA, user string, now time.Time, admitted ...time.Time) (*Trust, error) {
	if err := CheckName(user); err != nil {
		return nil, fmt.Errorf("user: %w", err)
	}
	// One later than the last eviction, if this clock is behind: see Admission.
	upTo := max(now.Unix(), 1)
	if last, ok := t.evicted[user]; ok {
		upTo = max(upTo, last+1)
	}
	for _, a := range admitted {
		upTo = max(upTo, a.Unix())
	}
	next := t.list.clone()
	next.evict(user, upTo)
	return t.issue(next, ca, ca, now)
}

// Merge returns the next version of the list, in which evictions of another list hold as well, as
// they are there. Without any it is the same list under a newer version. ca must be the newest CA.
// As with [Trust.Evict] the caller publishes the list first.
func (t *Trust) Merge(ca *CA, now time.Time, evictions ...Eviction) (*Trust, error) {
	next := t.list.clone()
	for _, e := range evictions {
		if !t.Voids(e.User, e.Admitted) {
			next.evict(e.User, e.Admitted.Unix())
		}
	}
	return t.issue(next, ca, ca, now)
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
	l.CAs[0].Retire = max(retire.Unix(), 1)
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
	l.Version = t.list.Version + 1
	l.Issued = max(now.Unix(), t.list.Issued)
	doc, err := signDocument(listContext, l, signer.private())
	if err != nil {
		return nil, fmt.Errorf("signing the trust list: %v", err)
	}
	return t.Update(doc) // checks what we made as everybody else will
}

// Evicted reports whether the subject's user was evicted after the subject was admitted. Hubs have
// no user.
func (t *Trust) Evicted(s Subject) bool { return s.Role == RoleMember && t.Voids(s.User, s.Admitted) }

// Voids reports whether a user was evicted after an admission: what was granted to the one who was
// admitted then is not for the next of that name.
func (t *Trust) Voids(user string, admitted time.Time) bool {
	upTo, ok := t.evicted[user]
	return ok && admitted.Unix() <= upTo
}

// Evictions returns all evictions, sorted by user.
func (t *Trust) Evictions() []Eviction {
	all := make([]Eviction, len(t.list.Evictions))
	for i, e := range t.list.Evictions {
		all[i] = Eviction{User: e.User, Admitted: time.Unix(e.Admitted, 0)}
	}
	return all
}

// Admission returns the admission time that a new invitation of the user must carry: now, or for a
// user who was evicted the first second after that, if now is not later.
func (t *Trust) Admission(user string, now time.Time) time.Time {
	seconds := max(now.Unix(), 1)
	if upTo, ok := t.evicted[user]; ok {
		seconds = max(seconds, upTo+1)
	}
	return time.Unix(seconds, 0)
}

// checkCA checks that an issuer is accepted now.
func (t *Trust) checkCA(issuer ID, now time.Time) error {
	i := slices.Index(t.ids, issuer)
	if i < 0 {
		return failf(ErrUntrusted, "certificate is not signed by the CA of mesh %s", t.list.Mesh)
	}
	if retire := t.list.CAs[i].Retire; retire != 0 && now.Unix() >= retire {
		return failf(ErrExpired, "certificate is of a CA that the mesh replaced; it was accepted until %s",
			date(time.Unix(retire, 0)))
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
