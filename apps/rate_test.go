package apps

import "testing"

func TestSizesAndRatesAreReadAsPeopleWriteThem(t *testing.T) {
	for s, want := range map[string]int64{
		"off": 0, "1": 1, "65536": 65536, "500K": 500 << 10, "500k": 500 << 10, "1.5M": 3 << 19, "2g": 2 << 30,
		"": -1, "0": -1, "-5": -1, "K": -1, "5T": -1, "NaN": -1, "Inf": -1, "1e300": -1, "2MB": -1, "0.1": -1,
	} {
		for _, parse := range []func(string) (int64, error){ParseSize, ParseRate} {
			got, err := parse(s)
			if want < 0 && err == nil || want >= 0 && (err != nil || got != want) {
				t.Errorf("%q: %d, %v", s, got, err)
			}
		}
	}
}
