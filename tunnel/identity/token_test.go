package identity

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ztm/tunnel/unixtime"
)

// joining is a token and who takes part in its use.
type joining struct {
	*mesh
	root, joiner device
	token        Token
}

func newJoining(t testing.TB) joining {
	t.Helper()
	j := joining{mesh: newMesh(t), joiner: newDevice(t)}
	j.root = j.member(t, "root", start)
	j.token = must(j.ca.NewToken("bob", j.root.id, start, start.Add(day)))(t)
	return j
}

func (j joining) prove(t testing.TB) Proof {
	t.Helper()
	return must(j.token.Prove(j.joiner.public(), "laptop"))(t)
}

func TestTokenSaysWhatItsInvitationSays(t *testing.T) {
	j := newJoining(t)
	want := Invitation{User: "bob", Admitted: start, Expires: start.Add(day), Redeemer: j.root.id, Uses: 7, Ephemeral: true, Approve: true, By: j.joiner.id}
	token := must(j.ca.IssueToken(want))(t)
	want.Nonce = token.ID()
	proof := must(token.Prove(j.joiner.public(), "pod"))(t)
	got := must(j.ca.CheckProof(proof, j.joiner.public(), "pod", j.root.id, start))(t)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("invitation (-want +got):\n%s", diff)
	}
	if !token.Ephemeral() || !token.Approve() {
		t.Error("its holder does not see that")
	}
	for name, bad := range map[string]Invitation{
		"too many uses": {User: "bob", Admitted: start, Expires: start, Redeemer: j.root.id, Uses: MaxUses + 1},
		"by nobody":     {User: "bob", Admitted: start, Expires: start, Redeemer: j.root.id, By: "x"},
	} {
		if _, err := j.ca.IssueToken(bad); err == nil {
			t.Errorf("%s: a token was made", name)
		}
	}
}

func TestTokenAdmitsItsHolder(t *testing.T) {
	j := newJoining(t)
	if j.token.User() != "bob" || j.token.Redeemer() != j.root.id || j.token.Mesh() != j.ca.Mesh() || !j.token.Expires().Equal(start.Add(day)) {
		t.Errorf("token is for %s of %s at %s until %v", j.token.User(), j.token.Mesh(), j.token.Redeemer(), j.token.Expires())
	}
	wire := must(json.Marshal(j.prove(t)))(t)
	var p Proof
	if err := json.Unmarshal(wire, &p); err != nil {
		t.Fatal(err)
	}
	if to, err := p.Redeemer(); to != j.root.id || err != nil {
		t.Errorf("redeemer %s, %v", to, err)
	}
	got := must(j.ca.CheckProof(p, j.joiner.public(), "laptop", j.root.id, start.Add(day)))(t)
	want := Invitation{User: "bob", Admitted: start, Nonce: got.Nonce, Expires: start.Add(day), Redeemer: j.root.id, Uses: 1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("invitation (-want +got):\n%s", diff)
	}
	if again := must(j.ca.CheckProof(j.prove(t), j.joiner.public(), "laptop", j.root.id, start))(t); again.Nonce != got.Nonce {
		t.Error("the nonce of a token changed")
	}
	other := must(j.ca.NewToken("bob", j.root.id, start, start.Add(day)))(t)
	proof := must(other.Prove(j.joiner.public(), "laptop"))(t)
	if again := must(j.ca.CheckProof(proof, j.joiner.public(), "laptop", j.root.id, start))(t); again.Nonce == got.Nonce {
		t.Error("two tokens have the same nonce")
	}
}

func TestTokenIsCheckedByTheCAFromItsFile(t *testing.T) {
	j := newJoining(t)
	ca := must(ParseCA(j.ca.CertificatePEM(), j.ca.KeyPEM()))(t)
	if _, err := ca.CheckProof(j.prove(t), j.joiner.public(), "laptop", j.root.id, start); err != nil {
		t.Error(err)
	}
}

func TestProofForSomethingElseIsRefused(t *testing.T) {
	j := newJoining(t)
	thief, other := newDevice(t), newMesh(t)
	successor := must(j.ca.Successor(start))(t)
	good := j.prove(t)
	alter := func(old, new string) Proof {
		if !bytes.Contains(good.Statement, []byte(old)) {
			t.Fatalf("no %s in %s", old, good.Statement)
		}
		return Proof{bytes.Replace(good.Statement, []byte(old), []byte(new), 1), good.MAC}
	}
	tests := []struct {
		name string
		ca   *CA
		p    Proof
		key  ed25519.PublicKey
		ep   string
		self ID
		now  time.Time
		kind error
		text string
	}{
		{"another key", j.ca, good, thief.public(), "laptop", j.root.id, start, ErrToken, "not valid for this device and name"},
		{"another name", j.ca, good, j.joiner.public(), "server", j.root.id, start, ErrToken, "not valid for this device and name"},
		{"another redeemer", j.ca, good, j.joiner.public(), "laptop", thief.id, start, ErrToken, "to be redeemed by " + string(j.root.id)},
		{"too late", j.ca, good, j.joiner.public(), "laptop", j.root.id, start.Add(day + time.Second), ErrTokenExpired, "join token expired on 2100-01-03T03:04:05Z"},
		{"another mesh", other.ca, good, j.joiner.public(), "laptop", j.root.id, start, ErrWrongMesh, "join token is for mesh " + string(j.ca.Mesh())},
		{"another CA of the mesh", successor, good, j.joiner.public(), "laptop", j.root.id, start, ErrToken, "not valid"},
		{"another user", j.ca, alter(`"bob"`, `"root"`), j.joiner.public(), "laptop", j.root.id, start, ErrToken, "not valid"},
		{"another mesh in its statement", other.ca, alter(string(j.ca.Mesh()), string(other.ca.Mesh())), j.joiner.public(), "laptop", j.root.id, start, ErrToken, "not valid"},
		{"another redeemer in its statement", j.ca, alter(string(j.root.id), string(thief.id)), j.joiner.public(), "laptop", thief.id, start, ErrToken, "not valid"},
		{"a later end", j.ca, alter(`"expires":"2`, `"expires":"3`), j.joiner.public(), "laptop", j.root.id, start, ErrToken, "not valid"},
		{"a later admission", j.ca, alter(`"admitted":"2`, `"admitted":"3`), j.joiner.public(), "laptop", j.root.id, start, ErrToken, "not valid"},
		{"another nonce", j.ca, alter(`"nonce":"`, `"nonce":"A`), j.joiner.public(), "laptop", j.root.id, start, ErrToken, "statement"},
		{"another form", j.ca, alter(`{`, `{ `), j.joiner.public(), "laptop", j.root.id, start, ErrToken, "canonical"},
		{"no MAC", j.ca, Proof{good.Statement, nil}, j.joiner.public(), "laptop", j.root.id, start, ErrToken, "not valid"},
		{"half a MAC", j.ca, Proof{good.Statement, good.MAC[:16]}, j.joiner.public(), "laptop", j.root.id, start, ErrToken, "not valid"},
		{"nothing", j.ca, Proof{}, j.joiner.public(), "laptop", j.root.id, start, ErrToken, "statement"},
		{"too much", j.ca, Proof{make([]byte, maxStatement+1), good.MAC}, j.joiner.public(), "laptop", j.root.id, start, ErrToken, "larger"},
		{"no key", j.ca, good, nil, "laptop", j.root.id, start, ErrKey, "0 bytes"},
		{"no name", j.ca, good, j.joiner.public(), "", j.root.id, start, ErrName, "empty"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.ca.CheckProof(tt.p, tt.key, tt.ep, tt.self, tt.now)
			wantError(t, err, tt.kind, tt.text)
			if got != (Invitation{}) {
				t.Errorf("an invitation came with the error: %+v", got)
			}
		})
	}
}

func TestEveryBitOfAProofCounts(t *testing.T) {
	j := newJoining(t)
	good := j.prove(t)
	check := func(p Proof) error {
		_, err := j.ca.CheckProof(p, j.joiner.public(), "laptop", j.root.id, start)
		return err
	}
	for i := range good.Statement {
		if check(Proof{flip(good.Statement, i), good.MAC}) == nil {
			t.Errorf("byte %d of the statement does not count", i)
		}
	}
	for i := range good.MAC {
		if check(Proof{good.Statement, flip(good.MAC, i)}) == nil {
			t.Errorf("byte %d of the MAC does not count", i)
		}
	}
}

func TestTokenSurvivesItsText(t *testing.T) {
	j := newJoining(t)
	text := must(j.token.MarshalText())(t)
	var again Token
	if err := again.UnmarshalText(text); err != nil {
		t.Fatal(err)
	}
	proof := must(again.Prove(j.joiner.public(), "laptop"))(t)
	if diff := cmp.Diff(j.prove(t), proof); diff != "" {
		t.Errorf("proof (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(string(text), string(must(again.MarshalText())(t))); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
}

func TestTextThatIsNoTokenIsRefused(t *testing.T) {
	text := string(must(newJoining(t).token.MarshalText())(t))
	part := strings.Split(text, ".")
	for name, bad := range map[string]string{
		"empty":              "",
		"another prefix":     "ztmjoin2" + text[len(tokenPrefix):],
		"truncated":          text[:len(text)-1],
		"without a secret":   part[0] + "." + part[1],
		"with another part":  text + ".x",
		"with a line end":    part[0] + "." + part[1] + ".\n" + part[2],
		"padded":             text + "=",
		"too large":          text + strings.Repeat("A", 2*maxStatement),
		"of no statement":    part[0] + ".e30." + part[2],
		"of a long one":      part[0] + "." + strings.Repeat("A", 800) + "." + part[2],
		"loose end bits":     text[:len(text)-1] + "_",
		"statement not JSON": part[0] + ".AAAA." + part[2],
	} {
		t.Run(name, func(t *testing.T) {
			wantError(t, new(Token).UnmarshalText([]byte(bad)), ErrToken, "join token")
		})
	}
}

func TestTokenOfNothingIsNotMade(t *testing.T) {
	m := newMesh(t)
	root := m.member(t, "root", start)
	_, err := m.ca.NewToken("no/name", root.id, start, start)
	wantError(t, err, ErrName, "user")
	_, err = m.ca.NewToken("bob", "nobody", start, start)
	wantError(t, err, ErrToken, "malformed")
	_, err = m.ca.NewToken("bob", root.id, start, time.Unix(0, 0))
	wantError(t, err, ErrToken, "malformed")
	_, err = m.ca.NewToken("bob", root.id, time.Time{}, start)
	wantError(t, err, ErrToken, "1970")
	if _, err := m.ca.NewToken(strings.Repeat("x", maxName), root.id, unixtime.MaxSeconds.Time(), unixtime.MaxSeconds.Time()); err != nil {
		t.Errorf("the longest statement: %v", err)
	}
}

func TestZeroTokenIsNone(t *testing.T) {
	var none Token
	if none.User() != "" || none.Redeemer() != "" || none.Mesh() != "" {
		t.Error("the zero token is for somebody")
	}
	_, err := none.Prove(newDevice(t).public(), "laptop")
	wantError(t, err, ErrToken, "no join token")
	_, err = none.MarshalText()
	wantError(t, err, ErrToken, "no join token")
}
