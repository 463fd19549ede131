package spec

import "testing"

func TestParseRate(t *testing.T) {
	tests := []struct {
		in   string
		want Rate
		text string
	}{
		{"10MB/s", 10e6, "10MB/s"}, {"10MB", 10e6, "10MB/s"}, {"1.5GB/s", 15e8, "1.5GB/s"}, {"512KiB/s", 512 << 10, "524.288kB/s"},
		{"8Mbit/s", 1e6, "1MB/s"}, {"1234567", 1234567, "1234.567kB/s"}, {"1234567891", 1234567891, "1234567.891kB/s"},
		{"0", 0, "0B/s"}, {"1000B/s", 1000, "1kB/s"},
	}
	for _, test := range tests {
		if r, err := ParseRate(test.in); r != test.want || err != nil || r.String() != test.text {
			t.Errorf("%q became %d (%s), %v; want %d (%s)", test.in, r, r, err, test.want, test.text)
		}
	}
	for _, in := range []string{"", "fast", "-1MB", "10", "999B/s", "1e300GB", "NaN", "Inf", "0x10MB", "10MB/h", "10 MB/s"} {
		if r, err := ParseRate(in); err == nil {
			t.Errorf("%q became %d", in, r)
		}
	}
}

func FuzzParseRate(f *testing.F) {
	for _, s := range []string{"10MB/s", "0", "1.25Mbit/s", "1000000000"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRate(s)
		if err != nil {
			return
		}
		if again, err := ParseRate(r.String()); again != r || err != nil {
			t.Errorf("%q is %d, and %q is %d, %v", s, r, r, again, err)
		}
	})
}
