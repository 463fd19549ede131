package door

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"ztm/apps"
	"ztm/apps/external/contract"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

func TestAnAppHasNoMoreThanItsFlowsFromAllPeers(t *testing.T) {
	var in In
	enter := func(app string, peer int) (func(), error) {
		return in.enter(Request{ID: app, Caller: contract.Caller{ID: identity.ID(fmt.Sprint(peer))}})
	}
	release, err := enter(appID, 0)
	for i := 1; i < maxFlows && err == nil; i++ {
		_, err = enter(appID, i)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := enter(appID, -1); answer.CodeOf(err) != answer.Limit {
		t.Errorf("one more: %v", err)
	}
	if _, err := enter("other/app", -1); err != nil {
		t.Errorf("another app: %v", err)
	}
	release()
	if _, err := enter(appID, -1); err != nil {
		t.Errorf("after one has ended: %v", err)
	}
}

// silent is a flow whose peer has opened it and says nothing.
type silent struct {
	apps.Flow
	conn net.Conn
}

func (s silent) Accept() (net.Conn, error) { return s.conn, nil }

func TestAPeerThatSendsNoRequestHasItsPlaceForTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, peer := net.Pipe()
		toProgram, program := net.Pipe()
		defer program.Close()
		late := time.AfterFunc(time.Hour, func() { peer.Close() })
		defer late.Stop()
		ended := make(chan error, 1)
		go func() { // ends with the flow
			_, err := io.Copy(io.Discard, peer)
			ended <- err
		}()
		begun, in := time.Now(), new(In)
		in.Serve(t.Context(), silent{conn: near}, Request{ID: appID, Kind: "http", Dial: func(context.Context) (net.Conn, error) { return toProgram, nil }})
		if took := time.Since(begun); took != headWithin {
			t.Errorf("it had its place for %v", took)
		}
		<-ended
	})
}

func TestAnAnswerThatTheProgramBreaksOffIsNoWholeOneForThePeer(t *testing.T) {
	m := newMesh(t, answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", nil))
	c := m.open(t, "app/http/"+appID, nil)
	defer c.Close()
	io.WriteString(c, get)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return // it is cut before its head
	}
	if text, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("the peer takes it for whole: %q", text)
	}
}
