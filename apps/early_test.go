package apps_test

import (
	"bytes"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"

	"ztm/apps"
	"ztm/apps/appstest"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

// client returns the far end of a connection, and the near one as an Early.
func client(t *testing.T) (net.Conn, *apps.Early) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	far, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close(); near.Close() })
	return far, apps.NewEarly(near)
}

func say(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, r io.Reader, text string) {
	t.Helper()
	b := make([]byte, len(text))
	if _, err := io.ReadFull(r, b); err != nil || string(b) != text {
		t.Fatalf("got %q, %v; want %q", b, err, text)
	}
}

func TestEveryAttemptAndThenTheReaderBeginWithTheFirstByte(t *testing.T) {
	far, e := client(t)
	say(t, far, "hello")
	first := e.Attempt()
	want(t, first, "hel")
	if n := first.Stop(); n != 3 {
		t.Errorf("the first attempt has sent %d bytes", n)
	}
	second := e.Attempt()
	want(t, second, "hello")
	say(t, far, ", world")
	want(t, second, ", wo")
	if n := second.Stop(); n != 9 {
		t.Errorf("the second attempt has sent %d bytes", n)
	}
	if n, err := second.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("an attempt that is over gave %d, %v", n, err)
	}
	far.Close()
	if b, err := io.ReadAll(e); string(b) != "hello, world" || err != nil {
		t.Errorf("the reader got %q, %v", b, err)
	}
}

func TestStopInterruptsAReadThatWaits(t *testing.T) {
	far, e := client(t)
	a := e.Attempt()
	entered := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		close(entered)
		_, err := a.Read(make([]byte, 10))
		ended <- err
	}()
	<-entered
	if n := a.Stop(); n != 0 {
		t.Errorf("%d bytes were sent", n)
	}
	if err := <-ended; err != io.EOF {
		t.Errorf("the waiting Read returned %v", err)
	}
	say(t, far, "later")
	want(t, e, "later")
}

func TestAnAttemptTakesNoMoreThanTheLimit(t *testing.T) {
	far, e := client(t)
	data := bytes.Repeat([]byte("0123456789"), apps.EarlyLimit/5)
	go func() { // ends with far
		far.Write(data)
		far.Close()
	}()
	for range 2 {
		a := e.Attempt()
		b, err := io.ReadAll(a)
		if err != nil || len(b) != apps.EarlyLimit || a.Stop() != len(b) {
			t.Fatalf("an attempt gave %d bytes, %v", len(b), err)
		}
	}
	if b, err := io.ReadAll(e); err != nil || !bytes.Equal(b, data) {
		t.Errorf("the reader got %d bytes of %d, %v", len(b), len(data), err)
	}
}

func TestAFailureOfTheClientIsNotForgotten(t *testing.T) {
	far, e := client(t)
	far.(*net.TCPConn).SetLinger(0)
	far.Close()
	a := e.Attempt()
	if n, err := a.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("the attempt gave %d, %v", n, err)
	}
	a.Stop()
	for range 2 {
		if _, err := e.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("a reset looks like %v", err)
		}
	}
}

func TestBytesReadBeforeTheOpeningAreNotSent(t *testing.T) {
	far, e := client(t)
	say(t, far, "PROXY\nhello")
	want(t, e, "PROXY\n")
	a := e.Attempt()
	want(t, a, "hello")
	a.Stop()
	want(t, e, "hello")
}

// An opening stops an attempt that a timer has just stopped. The timer's call may be behind.
func TestAfterEachOfTwoStopsTheClientCanBeRead(t *testing.T) {
	far, e := client(t)
	for range 3000 {
		a := e.Attempt()
		begun := make(chan struct{})
		timer := make(chan struct{})
		go func() { // awaited below
			defer close(timer)
			<-begun
			a.Stop()
		}()
		close(begun)
		a.Read(make([]byte, 1)) // until it is stopped
		a.Stop()
		say(t, far, "x")
		want(t, e, "x")
		<-timer
	}
}

// An opening whose session hangs begins another attempt, which may be at once.
func TestAnAttemptBesideOneThatReadsTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		far, near := net.Pipe()
		defer far.Close()
		e := apps.NewEarly(near)
		first := e.Attempt()
		read := make(chan int)
		go func() { // awaited below
			n, _ := first.Read(make([]byte, 10))
			read <- n
		}()
		synctest.Wait() // it waits for the client
		second := e.Attempt()
		go second.Read(make([]byte, 10)) // ends with the attempt
		synctest.Wait()
		say(t, far, "hello")
		n := <-read
		go far.Write([]byte("!")) // ends with the reader
		synctest.Wait()
		if n != 5 || first.Stop() != 5 || second.Stop() != 0 {
			t.Errorf("the first has %d of 5 bytes, the second %d", n, second.Stop())
		}
		want(t, e, "hello!")
	})
}
