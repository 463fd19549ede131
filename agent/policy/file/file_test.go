package file

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"ztm/tunnel/identity/policy"
)

// now is a time at which nothing of the example has ended.
const now = 1_780_000_000

func six(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile("testdata/six.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func read(t *testing.T, text string) (*File, *policy.Source) {
	t.Helper()
	f, err := Read([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	s, err := f.Source(nil, now)
	if err != nil {
		t.Fatal(err)
	}
	return f, s
}

func TestTheSixCasesHold(t *testing.T) {
	f, s := read(t, six(t))
	if wrong := f.Run(s, now); len(wrong) > 0 || len(f.Tests) != 12 || f.Base != 41 || s.Mode != policy.Enforce {
		t.Errorf("%d tests: %s", len(f.Tests), strings.Join(wrong, "\n"))
	}
	if _, err := s.Marshal(); err != nil {
		t.Error(err)
	}
}

// TestATestThatDoesNotHoldSaysWhy turns each test of the example around.
func TestATestThatDoesNotHoldSaysWhy(t *testing.T) {
	swapped := strings.NewReplacer("{can:", "{cannot:", "{cannot:", "{can:").Replace(six(t))
	f, s := read(t, swapped)
	wrong := f.Run(s, now)
	if want := 12 + 2*5; len(wrong) != want { // two of them are of all six endpoints
		t.Errorf("%d of %d do not hold:\n%s", len(wrong), want, strings.Join(wrong, "\n"))
	}
	for _, want := range []string{
		"line 27: carol can reach tunnel/tcp/ssh at srv-7, by the grant contractor",
		"line 28: carol cannot reach tunnel/tcp/ssh at srv-7: ended (grant contractor)",
		"line 38: dora cannot reach tunnel/tcp/db at db-1: wrong-device (grant db)",
	} {
		if !slices.Contains(wrong, want) {
			t.Errorf("nothing says %q:\n%s", want, strings.Join(wrong, "\n"))
		}
	}
}

func TestJSONIsRead(t *testing.T) {
	var tree any
	if err := yaml.Unmarshal([]byte(six(t)), &tree); err != nil {
		t.Fatal(err)
	}
	b, err := json.MarshalIndent(tree, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	_, fromYAML := read(t, six(t))
	f, fromJSON := read(t, string(b))
	if diff := cmp.Diff(fromYAML, fromJSON); diff != "" || len(f.Tests) != 12 {
		t.Errorf("(-YAML +JSON):\n%s", diff)
	}
}

func TestWhatIsNotUnderstoodIsRefusedWithItsLine(t *testing.T) {
	const id = "k5w2yq7n4hq3r6ab5c2d7e4f3g6hxyza"
	base := func(rest string) string { return "ztm: policy/1\n" + rest }
	grant := func(fields string) string {
		return base("users: {bob: {}}\nendpoints: {a: {id: " + id + "}}\ngrants:\n- {name: g, " + fields + "}\n")
	}
	for _, test := range []struct{ name, text, want string }{
		{"nothing", "", "empty"},
		{"no YAML", "ztm: [", ""},
		{"a list", "- a", "line 1: the file"},
		{"no kind", "users: {}", "has no ztm"},
		{"another version", "ztm: policy/2", `line 1: it is "policy/2"`},
		{"an unknown field", base("user: {}"), `line 2: the file has no field "user"`},
		{"a field twice", base("users: {}\ngroups: {}\nusers: {}"), `line 4: "users" is there twice`},
		{"a user twice", base("users:\n  bob: {}\n  bob: {}"), `line 4: "bob" is there twice`},
		{"an anchor", base("users: &u {}\ngroups: *u"), "line 2: anchors"},
		{"an alias", base("groups: {g: {members: &m [bob]}, h: {members: *m}}"), "line 2: anchors"},
		{"a merge", base("groups: {g: {<<: {members: [bob]}}}"), "line 2"},
		{"a tag", base("users: !!map {}"), "line 2: tags"},
		{"two documents", base("users: {}\n---\nztm: policy/1"), "more than one document"},
		{"no as a user", base("groups: {g: {members: [no]}}"), "line 2: no is no text here"},
		{"a number as a user", base("groups:\n  g:\n    members:\n    - 17"), "line 5: 17 is no text here"},
		{"a date as an end", base("users: {bob: {until: 2026-12-04}}"), "line 2: 2026-12-04 is no text here"},
		{"an end without a zone", base("users: {bob: {until: \"2026-12-04T18:00:00\"}}"), "time with its zone"},
		{"an end of zero", base("users: {bob: {until: \"1970-01-01T00:00:00Z\"}}"), "long ago"},
		{"an end that is empty", base("users: {bob: {until: \"\"}}"), "time with its zone"},
		{"an end in the year 1", base("users: {bob: {until: \"0001-01-01T00:00:00Z\"}}"), "long ago"},
		{"an empty port", grant("who: [bob], to: ['proxy/10.0.0.0/8:'], at: [a]"), "line 5: to"},
		{"a port of a forward that is empty", grant("who: [bob], to: ['tunnel/forward/10.0.0.1:'], at: [a]"), "line 5: to"},
		{"null", base("users: null"), "line 2: users"},
		{"a group without members", base("groups: {g: {}}"), "line 2: a group has no members"},
		{"members null", base("groups: {g: {members: }}"), "line 2: members"},
		{"who empty", grant("who: [], to: [terminal], at: [a]"), "line 5: who is empty"},
		{"to empty", grant("who: [bob], to: [], at: [a]"), "line 5: to is empty"},
		{"at empty", grant("who: [bob], to: [terminal], at: []"), "line 5: at is empty"},
		{"at missing", grant("who: [bob], to: [terminal]"), "line 5: a grant has no at"},
		{"at null", grant("who: [bob], to: [terminal], at: "), "line 5: at"},
		{"from empty", grant("who: [bob], to: [terminal], at: [a], from: []"), "line 5: from is empty"},
		{"from null", grant("who: [bob], to: [terminal], at: [a], from: null"), "line 5: from"},
		{"a user nobody knows", grant("who: [bobb], to: [terminal], at: [a]"), `no user "bobb"`},
		{"a user in another case", grant("who: [Bob], to: [terminal], at: [a]"), `no user "Bob"`},
		{"a user by where the account is", grant("who: ['bob@'], to: [terminal], at: [a]"), `"bob@"`},
		{"a user with a prefix", grant("who: ['user:bob'], to: [terminal], at: [a]"), `"user:bob"`},
		{"a user with a space", grant("who: ['bob '], to: [terminal], at: [a]"), `"bob "`},
		{"a group nobody knows", grant("who: ['group:x'], to: [terminal], at: [a]"), `no group "x"`},
		{"an endpoint nobody knows", grant("who: [bob], to: [terminal], at: [b]"), `no endpoint "b"`},
		{"a test of nobody", base("tests:\n- {can: bob, to: terminal, at: '*'}"), `line 3: the test is of user "bob"`},
		{"a test of nowhere", base("users: {bob: {}}\ntests:\n- {can: bob, to: terminal, at: a}"), `line 4: the test is of endpoint "a"`},
		{"a test both ways", base("users: {bob: {}}\ntests:\n- {can: bob, cannot: bob, to: terminal, at: '*'}"), "line 4: a test has either"},
		{"a base that is none", base("base: -1"), "line 2: want a number"},
		{"a max that is none", base("groups: {g: {members: [], max: '1'}}"), "line 2"},
		{"mode that is none", base("mode: on-fire"), "mode"},
		{"no UTF-8", "ztm: \xff", "UTF-8"},
		{"deep", base("users: " + strings.Repeat("[", 50) + strings.Repeat("]", 50)), "nested"},
	} {
		f, err := Read([]byte(test.text))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %+v, %v; want %q", test.name, f, err, test.want)
		}
	}
}

func TestWhoWasThereBeforeStaysAddedThen(t *testing.T) {
	f, old := read(t, six(t))
	next, err := f.Source(old, now+1000)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(old, next); diff != "" {
		t.Errorf("the same file again (-before +after):\n%s", diff)
	}
	more, _ := Read([]byte(strings.NewReplacer("[alice, bob]", "[alice, bob, eve]", "who: [carol]", "who: [carol, ci]").Replace(six(t))))
	if next, err = more.Source(old, now+1000); err != nil {
		t.Fatal(err)
	}
	if m := next.Groups["ops"].Members; m[1].Added != now || m[2].Added != now+1000 || next.Grants[0].Who[0].Added != now || next.Grants[0].Who[1].Added != now+1000 {
		t.Errorf("%+v %+v", m, next.Grants[0].Who)
	}
	if f.CheckBase(41) != nil || f.CheckBase(42) == nil {
		t.Error("the base is not compared")
	}
}

func TestADifferenceSaysWhoGainsAndLosesWhat(t *testing.T) {
	_, old := read(t, six(t))
	for _, test := range []struct {
		name, from, to string
		gains, losses  []string
	}{
		{"nothing", "", "", nil, nil},
		{"a member", "[alice, bob]", "[alice, bob, eve]", []string{"eve to file/read at router-12", "eve in group:ops", "eve to tunnel/tcp/status at router-12"}, nil},
		{"no member any longer", "[alice, bob]", "[bob]", nil, []string{"alice to file/read at router-12", "alice in group:ops", "alice to tunnel/tcp/status at router-12"}},
		{"a group that no grant names", "groups:\n", "groups:\n  night: {members: [alice]}\n", []string{"alice in group:night"}, nil},
		{"a label", "labels: [role=db]", "labels: [role=db, demo]", []string{"gil to proxy/*.demo:443 at db-1"}, nil},
		{"everybody", `who: ["group:dba"]`, `who: ["group:dba", "*"]`, []string{"* to tunnel/tcp/db at db-1 from label:managed"}, nil},
		{"everything of an app", "to: [tunnel/tcp/ssh]", "to: [tunnel]", []string{"carol to tunnel at srv-7"}, nil},
		{"an earlier end", "2026-12-04T18:00:00+01:00", "2026-12-03T18:00:00+01:00", nil, []string{"carol to tunnel/tcp/ssh at srv-7"}},
		{"from anywhere", `, from: ["label:managed"]`, "", []string{"dora to tunnel/tcp/db at db-1"}, nil},
		{"the end of a user", `"2026-12-31T00:00:00Z"`, `"2026-12-30T00:00:00Z"`, nil, []string{"carol at all"}},
		{"no end of a user", `carol: {until: "2026-12-31T00:00:00Z"}`, "carol: {}", []string{"carol at all"}, nil},
		{"everywhere in place of one", "at: [cluster-a]", `at: ["*"]`, []string{"ci to kube at *"}, nil},
	} {
		f, err := Read([]byte(strings.Replace(six(t), test.from, test.to, 1)))
		if err != nil {
			t.Fatal(test.name, err)
		}
		next, err := f.Source(old, now)
		if err != nil {
			t.Fatal(test.name, err)
		}
		d, err := Diff(old, next, now)
		if err != nil {
			t.Fatal(err)
		}
		if got := rights(d.Gains); !slices.Equal(got, test.gains) {
			t.Errorf("%s: gains %q, want %q", test.name, got, test.gains)
		}
		if got := rights(d.Losses); !slices.Equal(got, test.losses) {
			t.Errorf("%s: losses %q, want %q", test.name, got, test.losses)
		}
		back, err := Diff(next, old, now)
		if err != nil || !slices.Equal(rights(back.Gains), test.losses) || !slices.Equal(rights(back.Losses), test.gains) {
			t.Errorf("%s: the way back is another: %+v, %v", test.name, back, err)
		}
	}
}

func TestTheAccessOfAUserWhomAFileDoesNotNameEndsAsBefore(t *testing.T) {
	f, old := read(t, six(t))
	old = old.Clone()
	old.Users["guest"], old.Users["gone"], old.Users["other"] = policy.User{Until: now + 60}, policy.User{Until: now - 60}, policy.User{}
	next, err := f.Source(old, now)
	if err != nil {
		t.Fatal(err)
	}
	_, other := next.Users["other"]
	if next.Users["guest"] != old.Users["guest"] || next.Users["gone"] != old.Users["gone"] || other {
		t.Errorf("%v, and %v before", next.Users, old.Users)
	}
	named, _ := read(t, strings.Replace(six(t), "users: {", "users: {guest: {}, ", 1))
	if next, err = named.Source(old, now); err != nil {
		t.Fatal(err)
	}
	d, err := Diff(old, next, now)
	if got := rights(d.Gains); next.Users["guest"].Until != 0 || err != nil || !slices.Equal(got, []string{"guest at all"}) {
		t.Errorf("one that the file names: %v, gains %q, %v", next.Users, got, err)
	}
}

func rights(all []Change) (out []string) {
	for _, c := range all {
		out = append(out, c.Right.String())
	}
	return out
}

func TestADifferenceSaysWhichEndpointsAreMeantOtherwise(t *testing.T) {
	_, old := read(t, six(t))
	next := old.Clone()
	next.Endpoints["dora-mac"] = policy.Endpoint{ID: next.Endpoints["dora-mac"].ID, Labels: []string{}}
	next.Endpoints["srv-7"] = policy.Endpoint{ID: next.Endpoints["cluster-a"].ID}
	delete(next.Endpoints, "cluster-a")
	d, err := Diff(old, next, now)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"dora-mac", "srv-7", "cluster-a"} {
		if !slices.ContainsFunc(d.Warns, func(w string) bool { return strings.Contains(w, "endpoint "+name+" ") }) {
			t.Errorf("nothing is said of endpoint %s: %q", name, d.Warns)
		}
	}
	if d, err := Diff(old, old, now); err != nil || slices.ContainsFunc(d.Warns, func(w string) bool { return strings.HasPrefix(w, "endpoint ") }) {
		t.Errorf("nothing is another: %q, %v", d.Warns, err)
	}
}

func TestADifferenceSaysWhichGroupsHaveOtherBounds(t *testing.T) {
	_, old := read(t, six(t))
	next := old.Clone()
	next.Groups["breakglass"] = policy.Group{Members: []policy.Member{}}
	delete(next.Groups, "guests")
	d, err := Diff(old, next, now)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(d.Warns, "\n")
	for _, want := range []string{"group breakglass: max is none, and 1h0m0s before", "group breakglass: notify is false, and true before"} {
		if !strings.Contains(got, want) {
			t.Errorf("nothing says %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "guests") {
		t.Errorf("of a group that goes it is in the rows who loses it:\n%s", got)
	}
}

func TestWhatIsSeldomMeantIsSaid(t *testing.T) {
	_, s := read(t, strings.Replace(six(t), `who: ["group:ops"]`, `who: ["*"]`, 1))
	d, err := Diff(&policy.Source{}, s, now)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(d.Warns, "\n")
	for _, want := range []string{"pizza-read is for every user", "breakglass is for every endpoint", "breakglass gives nobody anything"} {
		if !strings.Contains(got, want) {
			t.Errorf("nothing says %q:\n%s", want, got)
		}
	}
	var many strings.Builder
	fmt.Fprintf(&many, "ztm: policy/1\nusers: {")
	for i := range 2000 {
		fmt.Fprintf(&many, "u%d: {}, ", i)
	}
	many.WriteString("}\nendpoints: {")
	for i := range 600 {
		fmt.Fprintf(&many, "e%d: {id: k5w2yq7n4hq3r6ab5c2d7e4f3g6hx%s, labels: [x]}, ", i, string([]byte{'a' + byte(i/26/26), 'a' + byte(i/26%26), 'a' + byte(i%26)}))
	}
	many.WriteString("}\ngrants:\n")
	for i := range 3 {
		fmt.Fprintf(&many, "- {name: g%d, to: [terminal], at: ['label:x'], who: [", i)
		for j := range 900 {
			fmt.Fprintf(&many, "u%d, ", (j+i*500)%2000)
		}
		many.WriteString("]}\n")
	}
	_, s = read(t, many.String())
	if _, err := Diff(&policy.Source{}, s, now); err == nil {
		t.Error("more rights than can be shown are compared")
	}
}

// FuzzRead checks that whatever a file holds is read whole or refused.
func FuzzRead(f *testing.F) {
	f.Add(six(f))
	f.Add("ztm: policy/1\nusers: {a: {until: \"2026-01-01T00:00:00Z\"}}")
	f.Add("{\"ztm\": \"policy/1\", \"grants\": []}")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := Read([]byte(text))
		if err != nil {
			return
		}
		s, err := file.Source(nil, now)
		if err != nil {
			t.Fatalf("it is read, and is no policy: %v", err)
		}
		if _, err := s.Marshal(); err != nil {
			t.Fatal(err)
		}
		file.Run(s, now)
	})
}

func TestWhatIsExportedIsReadAgain(t *testing.T) {
	for _, text := range []string{six(t), "ztm: policy/1", "ztm: policy/1\nusers: {'no': {}, '17': {}}\ngroups: {'yes': {members: ['no', '17'], visible: root}}\nmode: observe"} {
		_, s := read(t, text)
		b, err := Write(s, 7)
		if err != nil {
			t.Fatal(err)
		}
		f, err := Read(b)
		if err != nil {
			t.Fatalf("%v\n%s", err, b)
		}
		again, err := f.Source(s, now+1)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s, again); diff != "" || f.Base != 7 {
			t.Errorf("base %d (-before +after):\n%s", f.Base, diff)
		}
	}
}

func TestAFileDoesNotAddANameThatDiffersFromAnotherInCaseAlone(t *testing.T) {
	f, s := read(t, "ztm: policy/1\nusers: {Bob: {}, bob: {}}")
	if _, err := f.Source(s, now); err != nil {
		t.Errorf("both are in force: %v", err)
	}
	_, one := read(t, "ztm: policy/1\nusers: {bob: {}}")
	if _, err := f.Source(one, now); !errors.Is(err, policy.ErrSource) {
		t.Errorf("one of them is new: %v", err)
	}
}
