package dialect

import (
	"net/http"
	"time"
)

// Model is what an answer tells of a model.
type Model struct {
	ID      string
	Created time.Time // the zero time is told as 0
}

type modelList struct {
	Object string      `json:"object"`
	Data   []modelItem `json:"data"`
}

type modelItem struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"` // seconds since 1970
	OwnedBy string `json:"owned_by"`
}

// ModelsAnswer is the list of models, in the order given, as the dialect's SDKs
// read it: OpenAI's where it has none of its own.
func (d *Dialect) ModelsAnswer(models []Model, requestID string) Response {
	if d.Style == Anthropic {
		return d.answer(anthropicList(models), requestID)
	}
	list := modelList{Object: "list", Data: make([]modelItem, len(models))}
	for i := range models {
		list.Data[i] = item(models[i])
	}
	return d.answer(list, requestID)
}

// ModelAnswer is one model, as in the list.
func (d *Dialect) ModelAnswer(m Model, requestID string) Response {
	if d.Style == Anthropic {
		return d.answer(anthropicItem(m), requestID)
	}
	return d.answer(item(m), requestID)
}

func item(m Model) modelItem {
	i := modelItem{ID: m.ID, Object: "model", OwnedBy: "tollgate"}
	if !m.Created.IsZero() {
		i.Created = m.Created.Unix()
	}
	return i
}

func (d *Dialect) answer(body any, requestID string) Response {
	h := []Header{{"content-type", "application/json"}}
	if requestID != "" {
		h = d.AppendID(h, requestID)
	}
	return Response{Status: http.StatusOK, Headers: h, Body: marshal(body)}
}
