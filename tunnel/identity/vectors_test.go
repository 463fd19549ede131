package identity

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "make new test vectors")

const vectorsFile = "testdata/vectors.json"

// vectors are one of each thing that crosses the wire or lies in a file, for this implementation of
// tomorrow and for others. Keys are given as seeds (RFC 8032 section 5.1.5) in hex; nothing else in
// the world uses them.
type vectors struct {
	About   string       `json:"about"`
	Now     int64        `json:"now"` // Unix seconds; when all was made
	Mesh    ID           `json:"mesh"`
	CA      vectorDevice `json:"ca"`
	NewCA   vectorDevice `json:"newCA"`
	Hub     vectorDevice `json:"hub"`
	Member  vectorDevice `json:"member"` // of user bob
	Joiner  vectorDevice `json:"joiner"`
	Evicted string       `json:"evicted"` // a trust list: version 1, user carol evicted
	Rotated string       `json:"rotated"` // the next one: version 2, by newCA
	Record  string       `json:"record"`  // of member
	Token   string       `json:"token"`   // by ca, for user dave, redeemed by member
	Name    string       `json:"name"`    // that joiner asks for
	Proof   Proof        `json:"proof"`   // by joiner
}

type vectorDevice struct {
	Seed        string `json:"seed"`
	ID          ID     `json:"id"`
	Certificate []byte `json:"certificate,omitempty"` // DER
}

func vectorOf(d device) vectorDevice {
	return vectorDevice{Seed: hex.EncodeToString(d.key.Seed()), ID: d.id, Certificate: d.der}
}

func (v vectorDevice) device(t testing.TB) device {
	t.Helper()
	key := ed25519.NewKeyFromSeed(must(hex.DecodeString(v.Seed))(t))
	return device{key: key, id: IDOf(key.Public().(ed25519.PublicKey)), der: v.Certificate}
}

func (v vectorDevice) ca(t testing.TB) *CA {
	t.Helper()
	return must(ParseCA(marshalCertificate(v.Certificate), MarshalPrivateKey(v.device(t).key)))(t)
}

func caDevice(ca *CA) device {
	return device{key: ca.private(), id: IDOf(publicKey(ca.cert)), der: ca.cert.Raw}
}

func loadVectors(t testing.TB) vectors {
	t.Helper()
	var v vectors
	if err := json.Unmarshal(must(os.ReadFile(vectorsFile))(t), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func makeVectors(t *testing.T) {
	t.Helper()
	m := newMesh(t)
	next := must(m.ca.Successor(start))(t)
	member, joiner := m.member(t, "bob", start), newDevice(t)
	evicted := must(m.trust.Evict(m.ca, "carol", start))(t)
	rotated := must(evicted.Rotate(m.ca, next, start.Add(30*day), start))(t)
	token := must(m.ca.NewToken("dave", member.id, start, start.Add(day)))(t)
	v := vectors{
		About: "Test vectors of package identity. Keys are Ed25519 seeds that nothing else uses.",
		Now:   start.Unix(), Mesh: m.ca.Mesh(), CA: vectorOf(caDevice(m.ca)), NewCA: vectorOf(caDevice(next)),
		Hub: vectorOf(m.hub(t, start)), Member: vectorOf(member), Joiner: vectorOf(joiner),
		Evicted: string(evicted.Document()), Rotated: string(rotated.Document()),
		Record: string(must(SignRecord(recordOf(member), member.key))(t)),
		Token:  string(must(token.MarshalText())(t)), Name: "laptop",
		Proof: must(token.Prove(joiner.public(), "laptop"))(t),
	}
	if err := os.WriteFile(vectorsFile, append(must(json.MarshalIndent(v, "", "  "))(t), '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestVectorsAreUnderstoodAndMadeAgain(t *testing.T) {
	if *update {
		makeVectors(t)
	}
	v := loadVectors(t)
	ca, next := v.CA.ca(t), v.NewCA.ca(t)
	if ca.Mesh() != v.Mesh || next.Mesh() != v.Mesh || v.CA.ID != v.Mesh {
		t.Errorf("meshes %s and %s", ca.Mesh(), next.Mesh())
	}
	for _, d := range []vectorDevice{v.CA, v.NewCA, v.Hub, v.Member, v.Joiner} {
		if got := d.device(t).id; got != d.ID {
			t.Errorf("ID %s, want %s", got, d.ID)
		}
	}

	trust := must(ParseTrust(ca.CertificatePEM(), []byte(v.Evicted)))(t)
	rotated := must(trust.Update([]byte(v.Rotated)))(t)
	if again := must(trust.Rotate(ca, next, start.Add(30*day), start))(t); string(again.Document()) != v.Rotated {
		t.Error("the rotation made again is another document")
	}
	for _, trust := range []*Trust{trust, rotated} {
		for role, d := range map[Role]vectorDevice{RoleHub: v.Hub, RoleMember: v.Member} {
			s, err := trust.Verify(must(x509.ParseCertificate(d.Certificate))(t), role, start)
			if err != nil || s.ID != d.ID || !s.Admitted.Equal(start) {
				t.Errorf("%s: %v, %v", role, s, err)
			}
		}
		if !trust.Evicted(Subject{Role: RoleMember, User: "carol", Admitted: start}) {
			t.Errorf("carol is not evicted in version %d", trust.Version())
		}
	}

	member, joiner := v.Member.device(t), v.Joiner.device(t)
	r, _, err := NewVerifier(rotated, NewClock(start)).Record([]byte(v.Record))
	if diff := cmp.Diff(recordOf(member), r); err != nil || diff != "" {
		t.Errorf("record: %v (-want +got):\n%s", err, diff)
	}
	if doc := must(SignRecord(r, member.key))(t); string(doc) != v.Record {
		t.Error("the record made again is another document")
	}

	var token Token
	if err := token.UnmarshalText([]byte(v.Token)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(v.Proof, must(token.Prove(joiner.public(), v.Name))(t)); diff != "" {
		t.Errorf("proof (-want +got):\n%s", diff)
	}
	if inv, err := ca.CheckProof(v.Proof, joiner.public(), v.Name, member.id, start); err != nil || inv.User != "dave" {
		t.Errorf("invitation %v, %v", inv, err)
	}
}
