package backup

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"ztm/tunnel/unixtime"
)

func TestABackupIsReadAsItWasWritten(t *testing.T) {
	database, now := bytes.Repeat([]byte("secret key "), 1000), time.Unix(1_800_000_000, 0)
	for _, passphrase := range []string{"", "correct horse"} {
		file, err := Encode("agent", database, passphrase, now)
		if err != nil {
			t.Fatal(err)
		}
		h, got, err := Decode(file, passphrase)
		if err != nil || !bytes.Equal(got, database) || h.Kind != "agent" || h.Made != unixtime.Of(now) {
			t.Errorf("passphrase %q: %+v, %d bytes, %v", passphrase, h, len(got), err)
		}
		if sealed := !bytes.Contains(file, []byte("secret key")); sealed != (passphrase != "") {
			t.Errorf("passphrase %q: the content is sealed: %v", passphrase, sealed)
		}
	}
}

func TestABackupThatIsNotWholeIsRefused(t *testing.T) {
	now := time.Unix(1, 0)
	plain, err := Encode("hub", []byte("0123456789"), "", now)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := Encode("hub", []byte("0123456789"), "p", now)
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Clone(plain)
	changed[len(changed)-1] ^= 1
	for name, tt := range map[string]struct {
		file       []byte
		passphrase string
		want       error
	}{
		"nothing":             {nil, "", ErrNoBackup},
		"another file":        {[]byte("SQLite format 3\x00"), "", ErrNoBackup},
		"cut off":             {plain[:len(plain)-1], "", ErrDamaged},
		"cut off in its head": {plain[:len(magic)+4], "", ErrDamaged},
		"changed":             {changed, "", ErrDamaged},
		"something follows":   {append(bytes.Clone(plain), 'x'), "", ErrDamaged},
		"sealed":              {sealed, "", ErrSealed},
		"wrong passphrase":    {sealed, "q", ErrPassphrase},
		"of another kind":     {bytes.Replace(sealed, []byte(`"hub"`), []byte(`"xyz"`), 1), "p", ErrPassphrase},
	} {
		if _, _, err := Decode(tt.file, tt.passphrase); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}

func TestAKeyTakesNoLongerThanItMay(t *testing.T) {
	for name, s := range map[string]Seal{
		"rounds without end": {Salt: make([]byte, saltBytes), Iterations: 1 << 30},
		"none":               {Salt: make([]byte, saltBytes)},
		"no salt":            {Iterations: 1},
	} {
		if _, err := s.cipher("x"); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func FuzzDecode(f *testing.F) {
	plain, err := Encode("agent", []byte("database"), "", time.Unix(1, 0))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain)
	f.Add([]byte(magic + `{"kind":"agent","size":1,"seal":{"salt":"AAAAAAAAAAAAAAAAAAAAAA==","iterations":1,"nonce":""}}` + "\nx"))
	f.Fuzz(func(t *testing.T, file []byte) {
		h, database, err := Decode(file, "")
		if err == nil && int64(len(database)) != h.Size {
			t.Errorf("%d bytes of %d", len(database), h.Size)
		}
	})
}
