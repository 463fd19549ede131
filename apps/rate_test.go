package apps

import (
	"strings"
	"testing"
)

func TestSizesAndRatesAreReadAsPeopleWriteThem(t *testing.T) {
	for s, want := range map[string]int64{
		"off": 0, "1": 1, "65536": 65536, "500K": 500e3, "500k": 500e3, "1.5M": 1500e3, "2g": 2e9, "5T": 5e12, "79B": 79, "2MB": 2e6, "2kB": 2e3, "2KB": 2e3,
		"512KiB": 512 << 10, "512kiB": 512 << 10, "1.5GiB": 3 << 29,
		"": -1, "-5": -1, "+5": -1, "K": -1, "B": -1, "5P": -1, "NaN": -1, "Inf": -1, "1e300": -1, "1e3": -1, "0x10": -1, "2mb": -1, "2Mb": -1, "2iB": -1, "2BB": -1,
		"2MBiB": -1, "2 MB": -1, "1..5M": -1, "0.1": -1, "0.1B": -1, "2000T": -1,
	} {
		for _, parse := range []func(string) (int64, error){ParseSize, ParseRate} {
			got, err := parse(s)
			if want < 0 && err == nil || want >= 0 && (err != nil || got != want) {
				t.Errorf("%q: %d, %v", s, got, err)
			}
		}
	}
}

func TestARateMayBeOfBitsAndSayASecondAndASizeMayNot(t *testing.T) {
	for s, want := range map[string]int64{"10MB/s": 10e6, "1MiB/s": 1 << 20, "8Mbit/s": 1e6, "8Mbit": 1e6, "800kbit/s": 100e3, "64bit/s": 8, "0": 0, "0B/s": 0, "0.0MB": 0, "0.1MiB/s": 104858, ".": -1,
		"8MBbit": -1, "8bits": -1, "bit": -1, "/s": -1, "10MB/h": -1, "off/s": -1, "10MB/s/s": -1} {
		if got, err := ParseRate(s); want < 0 && err == nil || want >= 0 && (err != nil || got != want) {
			t.Errorf("%q: %d, %v", s, got, err)
		}
		if got, err := ParseSize(s); err == nil {
			t.Errorf("%q is a size of %d", s, got)
		}
	}
}

func TestAnAmountThatIsShownIsReadAsItWasMeant(t *testing.T) {
	for n := int64(1); n < 1e14; n = n*7 + 3 {
		shown := Amount(n)
		if got, err := ParseSize(strings.ReplaceAll(shown, " ", "")); err != nil || Amount(got) != shown {
			t.Errorf("%d is shown as %q, which is read as %d, %v", n, shown, got, err)
		}
	}
}

func FuzzSizesAndRates(f *testing.F) {
	for _, s := range []string{"500M", "1.5GB", "512KiB", "off", "8Mbit/s", "0", "1e9", "9999999T", "0.0000001K", ".", "1..2K"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := ParseSize(s); err == nil && (n < 0 || n > maxSize || n == 0 && s != "off") {
			t.Errorf("%q is read as a size of %d", s, n)
		}
		if n, err := ParseRate(s); err == nil && (n < 0 || n > maxSize) {
			t.Errorf("%q is read as a rate of %d", s, n)
		}
	})
}
