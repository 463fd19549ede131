package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// newLog makes a log of so many lines.
func newLog(t *testing.T, lines int) *Log {
	l := New(Config{Lines: lines, Now: time.Now, Self: func() (string, identity.ID) { return "srv-7", "me" }, Name: func(id identity.ID) string {
		return map[identity.ID]string{"carols": "carol-lt"}[id]
	}})
	t.Cleanup(l.Close)
	return l
}

// refused is a line of a peer who asks for a target of their own.
func refused(user, target string) Line {
	return Line{Event: Refused, Result: No, Reason: Denied, User: user, App: "tunnel", Target: target}
}

// lines returns what a log holds, without what differs from run to run.
func lines(l *Log, f Filter) []Line {
	out, _ := l.Lines(f)
	return out
}

func users(all []Line) map[string]int {
	n := map[string]int{}
	for _, l := range all {
		n[l.User]++
	}
	return n
}

func TestALineIsWrittenInOneForm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(t, 10)
		l.Add(Line{Event: Refused, Result: No, Reason: Denied, User: "carol", PeerID: "carols", App: "tunnel", Target: "tcp/ssh",
			Rule: "no rule", Ref: "7f3a19", Trust: 3, Flow: "f", In: 1, Out: 2, Millis: 3})
		line := lines(l, Filter{})[0]
		const want = `{"v":1,"time":"2000-01-01T00:00:00.000Z","seq":1,"ep":"srv-7","epId":"me","event":"refused","result":"no","reason":"denied",` +
			`"user":"carol","peer":"carol-lt","peerId":"carols","app":"tunnel","target":"tcp/ssh","rule":"no rule","ref":"7f3a19","trust":3,"flow":"f","in":1,"out":2,"ms":3}`
		if got := string(line.Encode()); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
}

func TestEachLineNamesTheHashOfTheOneBefore(t *testing.T) {
	l := newLog(t, 100)
	for i := range 20 {
		l.Add(refused("eve", fmt.Sprint(i)))
	}
	prev := ""
	for _, line := range lines(l, Filter{}) {
		if line.Prev != prev {
			t.Fatalf("line %d names %q, the one before is %q", line.Seq, line.Prev, prev)
		}
		sum := sha256.Sum256(line.Encode())
		prev = hex.EncodeToString(sum[:])
	}
}

func TestWhoFloodsTheLogPushesOutTheirOwnLines(t *testing.T) {
	l := newLog(t, 100)
	l.Add(Line{Event: Settings, Result: OK, Target: "POST labels"})
	for i := range 20 {
		l.Add(refused("ann", fmt.Sprint(i)))
	}
	for i := range 1000 {
		l.Add(refused("eve", fmt.Sprint(i)))
	}
	for i := range 5 {
		l.Add(refused("bob", fmt.Sprint(i)))
	}
	all := lines(l, Filter{})
	want := map[string]int{"": 1, "ann": 20, "bob": 5, "eve": 65}
	if diff := cmp.Diff(want, users(all)); diff != "" {
		t.Errorf("lines of each (-want +got):\n%s", diff)
	}
	if last := all[len(all)-6]; last.Target != "999" {
		t.Errorf("the last line of eve is %+v", last)
	}
}

func TestManyUsersShareTheLog(t *testing.T) {
	l := newLog(t, 100)
	for i := range 10_000 {
		l.Add(refused(fmt.Sprint(i%150), fmt.Sprint(i)))
	}
	for i := range 100 {
		l.Add(Line{Event: Settings, Result: OK, Target: fmt.Sprint(i)})
	}
	if all := lines(l, Filter{}); len(all) != 100 || all[len(all)-1].Target != "99" {
		t.Errorf("%d lines, the last is %+v", len(all), all[len(all)-1])
	}
}

func TestRepeatsBecomeOneLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(t, 100)
		flow := Line{Event: Flow, Result: OK, User: "ann", App: "tunnel", Target: "tcp/db", In: 10, Out: 1}
		for range 50 {
			l.Add(flow)
			l.Add(refused("eve", "tcp/db"))
		}
		_, more := l.Lines(Filter{})
		if n := len(lines(l, Filter{})); n != 2 {
			t.Errorf("%d lines at first", n)
		}
		<-more // by itself
		if now := time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)); now != mergeTime {
			t.Errorf("the merged line came after %v", now)
		}
		synctest.Wait()
		l.Add(flow)
		var got []Line
		for _, line := range lines(l, Filter{}) {
			got = append(got, Line{Seq: line.Seq, Event: line.Event, Of: line.Of, User: line.User, Count: line.Count, In: line.In})
		}
		want := []Line{
			{Seq: 1, Event: Flow, User: "ann", In: 10}, {Seq: 2, Event: Refused, User: "eve"},
			{Seq: 3, Event: Merged, Of: Flow, User: "ann", Count: 49, In: 490}, {Seq: 4, Event: Merged, Of: Refused, User: "eve", Count: 49},
			{Seq: 5, Event: Flow, User: "ann", In: 10},
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Line{})); diff != "" {
			t.Errorf("lines (-want +got):\n%s", diff)
		}
	})
}

func TestOneUserCannotHaveAllThatIsMerged(t *testing.T) {
	l := newLog(t, 10_000)
	for i := range 5000 {
		l.Add(refused("eve", fmt.Sprint(i)))
	}
	for range 10 {
		l.Add(refused("ann", "tcp/db"))
	}
	if n := users(lines(l, Filter{}))["ann"]; n != 1 {
		t.Errorf("ten lines of another user are %d", n)
	}
	if n := len(l.merge.queue); n > maxKinds {
		t.Errorf("%d kinds are remembered", n)
	}
}

func TestAForgottenUserIsInNoLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(t, 100)
		for range 3 {
			l.Add(refused("mallory", "tcp/db"))
			l.Add(refused("ann", "tcp/db"))
		}
		if n := l.Forget("mallory"); n != 3 {
			t.Errorf("%d lines were dropped", n)
		}
		<-time.After(2 * mergeTime)
		for _, line := range lines(l, Filter{}) {
			if strings.Contains(string(line.Encode()), "mallory") {
				t.Errorf("it is still there: %s", line.Encode())
			}
		}
		if diff := cmp.Diff(map[string]int{"": 1, "ann": 2}, users(lines(l, Filter{}))); diff != "" {
			t.Errorf("lines of each (-want +got):\n%s", diff)
		}
	})
}

func TestAFilterSurvivesItsQueryAndMatchesWhatItSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(t, 100)
		l.Add(Line{Event: Flow, Result: OK, User: "ann", App: "proxy", Target: "1"})
		<-time.After(time.Minute)
		now := time.Now().UTC()
		l.Add(Line{Event: Refused, Result: No, User: "carol", PeerID: "carols", App: "tunnel", Target: "2"})
		l.Add(Line{Event: Flow, Result: End, User: "carol", PeerID: "x", App: "tunnel", Target: "3"})
		for _, test := range []struct {
			filter Filter
			want   string
		}{
			{Filter{}, "123"}, {Filter{User: "carol"}, "23"}, {Filter{Peer: "carol-lt"}, "2"}, {Filter{Peer: "x"}, "3"}, {Filter{App: "proxy"}, "1"},
			{Filter{Since: now}, "23"}, {Filter{Refused: true}, "23"}, {Filter{After: 2}, "3"}, {Filter{After: 4}, "123"}, {Filter{User: "carol", Peer: "x"}, "3"},
		} {
			f, wait, err := parseFilter(test.filter.Query(true))
			if diff := cmp.Diff(test.filter, f); diff != "" || !wait || err != nil {
				t.Errorf("the query of %+v: %v\n%s", test.filter, err, diff)
			}
			got := ""
			for _, line := range lines(l, f) {
				got += line.Target
			}
			if got != test.want {
				t.Errorf("%+v: got %s, want %s", test.filter, got, test.want)
			}
		}
	})
}

func TestARequestMayWaitForALine(t *testing.T) {
	l := newLog(t, 100)
	ask := func(method, path, query string) (*httptest.ResponseRecorder, error) {
		w := httptest.NewRecorder()
		return w, l.Serve(w, httptest.NewRequestWithContext(t.Context(), method, "/?"+query, nil), path)
	}
	type result struct {
		w   *httptest.ResponseRecorder
		err error
	}
	answers := make(chan result, 1)
	go func() { // ends with its answer
		w, err := ask(http.MethodGet, "", "wait=true&user=ann")
		answers <- result{w, err}
	}()
	l.Add(refused("eve", "tcp/db"))
	l.Add(refused("ann", "tcp/db"))
	if a := <-answers; a.err != nil || !bytes.Contains(a.w.Body.Bytes(), []byte(`"user":"ann"`)) || bytes.Contains(a.w.Body.Bytes(), []byte(`"eve"`)) {
		t.Errorf("the answer is %v %s", a.err, a.w.Body)
	}
	if w, err := ask(http.MethodDelete, "users/ann", ""); err != nil || strings.TrimSpace(w.Body.String()) != "1" {
		t.Errorf("forget: %v %s", err, w.Body)
	}
	for _, wrong := range [][3]string{{"POST", "", ""}, {"DELETE", "", ""}, {"DELETE", "users/", ""}, {"GET", "x", ""}} {
		if _, err := ask(wrong[0], wrong[1], wrong[2]); answer.CodeOf(err) != answer.NotFound {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	for _, query := range []string{"since=yesterday", "after=-1", "refused=perhaps", "wait=x"} {
		if _, err := ask("GET", "", query); answer.CodeOf(err) != answer.BadRequest {
			t.Errorf("%s: %v", query, err)
		}
	}
	l = newLog(t, 1)
	go l.Close()
	if w, err := ask("GET", "", "wait=true"); err != nil || strings.TrimSpace(w.Body.String()) != "[]" {
		t.Errorf("at the end: %v %s", err, w.Body)
	}
}

// FuzzLine checks that a line is one line and moves no cursor, whatever peers call things.
func FuzzLine(f *testing.F) {
	for _, s := range []string{"tcp/web", "a\r\nb", "\u2028", "\u202e", "\x1b[2J", "\x00", "\xff\xfe", `","user":"root`, strings.Repeat("ü", 64<<10), "\U0001F600", "\x7f\u0085"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, name, rule string) {
		l := newLog(t, 10)
		l.Add(Line{Event: Refused, Result: No, User: "eve", Peer: name, App: name, Target: name, Rule: rule, Flow: name})
		got := lines(l, Filter{})[0]
		b := got.Encode()
		for _, c := range b {
			if c < 0x20 || c > 0x7e {
				t.Fatalf("byte %#x in %s", c, b)
			}
		}
		if len(b) > 16<<10 {
			t.Errorf("a line of %d bytes", len(b))
		}
		var back Line
		if err := json.Unmarshal(b, &back); err != nil || back.User != "eve" {
			t.Errorf("%s: %v", b, err)
		}
		if !bytes.Equal(back.Encode(), b) {
			t.Errorf("it is not stable:\n%s\n%s", b, back.Encode())
		}
	})
}

func TestARequestIsRecordedInTheWordsOfItsCommandOrAsItWasAsked(t *testing.T) {
	for asked, want := range map[string]string{
		"PATCH apps/terminal/config": "config", "PATCH apps/file/config": "inbox", "PATCH apps/file/allow": "allow", "PATCH apps/app/apps/bob/chat": "config bob/chat",
		"POST apps/cloud/publish": "publish", "POST apps/app/apps/bob/chat/grant": "grant bob/chat",
		"POST apps/kube/logins/nas": "login nas", "POST apps/kube/logins/nas/token": "token nas",
		"PATCH elsewhere/config": "", "PATCH apps/config": "", "PATCH apps/a/b/config": "", "PATCH apps/app/apps/": "", "PATCH ": "",
	} {
		method, path, _ := strings.Cut(asked, " ")
		if got := words(method, path); got != want && (want != "" || got != asked) {
			t.Errorf("%q is %q", asked, got)
		}
	}
}
