package catalog

import "testing"

// An amount has 18 digits at most, of which the zero before a point is none.
func TestCheckAmount(t *testing.T) {
	t.Parallel()
	for text, ok := range map[string]bool{
		"0": true, "0.000000000000000001": true, "0.0000000000000000001": false, "1.00000000000000001": true, "1.000000000000000001": false,
		"123456789012345678": true, "1234567890123456789": false, "0.5": true, ".5": false, "5.": false, "-1": false, "1e3": false, "": false,
	} {
		if err := CheckAmount(text); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}
