package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
)

func TestKeysSurviveMarshalling(t *testing.T) {
	key := must(NewKey())(t)
	if got := must(ParsePrivateKey(MarshalPrivateKey(key)))(t); !got.Equal(key) {
		t.Error("the private key is another one")
	}
	public := newDevice(t).public()
	text := MarshalPublicKey(public)
	if got := must(ParsePublicKey(text))(t); !got.Equal(public) {
		t.Error("the public key is another one")
	}
	mailed := "\r\n  " + strings.ReplaceAll(string(text), "\n", "\r\n") + "\n\n"
	if got := must(ParsePublicKey([]byte(mailed)))(t); !got.Equal(public) {
		t.Error("after a mail program had it, the public key is another one")
	}
}

func TestPrivateKeysAreWrittenAsEverybodyReadsThem(t *testing.T) {
	key := must(NewKey())(t)
	der := must(x509.MarshalPKCS8PrivateKey(key))(t)
	if theirs := pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: der}); !bytes.Equal(theirs, MarshalPrivateKey(key)) {
		t.Errorf("crypto/x509 writes another form")
	}
	other := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	for name, der := range map[string][]byte{
		"empty":             nil,
		"short":             der[:len(der)-1],
		"long":              append(bytes.Clone(der), 0),
		"another algorithm": must(x509.MarshalPKCS8PrivateKey(other))(t),
	} {
		_, err := ParsePrivateKey(pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: der}))
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		wantError(t, err, ErrKey, "not an Ed25519 key")
	}
}

func TestWhatIsNotOnePublicKeyIsRefused(t *testing.T) {
	key := must(NewKey())(t)
	text := MarshalPublicKey(newDevice(t).public())
	other := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	ecKey := pem.EncodeToMemory(&pem.Block{Type: pemPublic, Bytes: must(x509.MarshalPKIXPublicKey(other.Public()))(t)})
	tests := []struct {
		name string
		text []byte
		want string
	}{
		{"empty", nil, "not PEM"},
		{"not PEM", []byte("bob"), "not PEM"},
		{"truncated", text[:len(text)/2], "truncated"},
		{"private key", MarshalPrivateKey(key), `this is a "PRIVATE KEY", not a "PUBLIC KEY"`},
		{"two keys", append(bytes.Clone(text), text...), "something follows"},
		{"text behind", append(bytes.Clone(text), "x"...), "something follows"},
		{"text before", append([]byte("x\n"), text...), "not PEM"},
		{"headers", bytes.Replace(text, []byte("-----\n"), []byte("-----\nA: b\n\n"), 1), "headers"},
		{"another algorithm", ecKey, "not an Ed25519 key"},
		{"too large", append(bytes.Repeat([]byte(" "), maxPEM), text...), "larger"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParsePublicKey(tt.text)
			wantError(t, err, ErrKey, tt.want)
		})
	}
}

func TestErrorAboutAPrivateKeyDoesNotQuoteIt(t *testing.T) {
	text := MarshalPrivateKey(must(NewKey())(t))
	body := strings.Split(string(text), "\n")[1]
	for _, damaged := range []string{string(text[:60]), strings.Replace(string(text), "MC4CAQ", "MC4CAg", 1), body, string(text) + body} {
		_, err := ParsePrivateKey([]byte(damaged))
		if err == nil {
			t.Errorf("damaged key was accepted:\n%s", damaged)
		} else if strings.Contains(err.Error(), body[20:40]) {
			t.Errorf("the error quotes the key: %v", err)
		}
	}
}
