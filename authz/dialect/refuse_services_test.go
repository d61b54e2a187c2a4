package dialect

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"tollgate/authz/reason"
)

// TestRefuseMinibase: what people look for in the service's documents is in the text.
func TestRefuseMinibase(t *testing.T) {
	for r, want := range map[reason.Reason][]string{
		reason.KeyInvalid:       {"API key", `"success":false`, `"code":"key_invalid"`},
		reason.ModelUnknown:     {"model_id", "micro_base"},
		reason.ModelMissing:     {"model_id"},
		reason.ModelAmbiguous:   {"model_id"},
		reason.ModelNotDeployed: {"model_id", "micro_base", "Deploy it first"},
	} {
		got := minibase.Refuse(Refusal{Reason: r, Model: "micro_base", Param: "model_id"})
		for _, part := range want {
			if !strings.Contains(string(got.Body), part) {
				t.Errorf("%v: %s is not in %s", r, part, got.Body)
			}
		}
		if got.Status != r.Status() {
			t.Errorf("%v: %d", r, got.Status)
		}
	}
	_, r, detail, param := readURLForm(t, "/api.php", urlFormType, "action=mt_train&model_id=m")
	got := minibase.Refuse(Refusal{Reason: r, Detail: detail, Param: param})
	if got.Status != 400 || !strings.Contains(string(got.Body), `"error":"Invalid action`) {
		t.Errorf("%d %s", got.Status, got.Body)
	}
}

// TestRefuseBaseten: OpenAI's SDKs take an object for an error, and nothing else.
func TestRefuseBaseten(t *testing.T) {
	var body struct {
		Error struct {
			Message string `json:"message"`
			Code    string `json:"code"`
		} `json:"error"`
	}
	got := baseten.Refuse(Refusal{Reason: reason.KeyMissing})
	if err := json.Unmarshal(got.Body, &body); err != nil || body.Error.Code != "key_missing" || !strings.HasSuffix(body.Error.Message, "Authorization: Api-Key KEY.") {
		t.Errorf("%v: %s", err, got.Body)
	}
}

// TestRefuseMiniMax: each reason has one of the codes that the service's clients know,
// and those for which they wait or pay are the service's own.
func TestRefuseMiniMax(t *testing.T) {
	known := []int{1000, 1002, 1004, 1008, 2013, 2056}
	for _, r := range reason.All() {
		var body struct {
			BaseResp struct {
				StatusCode int    `json:"status_code"`
				StatusMsg  string `json:"status_msg"`
			} `json:"base_resp"`
		}
		got := minimax.Refuse(Refusal{Reason: r, Model: "m"})
		if err := json.Unmarshal(got.Body, &body); err != nil || body.BaseResp.StatusMsg == "" {
			t.Errorf("%v: %v in %s", r, err, got.Body)
		}
		code := body.BaseResp.StatusCode
		if !slices.Contains(known, code) || got.Status == 200 || (code == 1002) != (got.Status == 429 && r != reason.BudgetExceeded) ||
			(code == 1008) != (r == reason.BudgetExceeded) || got.Status == 401 && code != 1004 || got.Status == 400 && code != 2013 {
			t.Errorf("%v: %d with the status %d", r, code, got.Status)
		}
	}
}
