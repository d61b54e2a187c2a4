package dialect

import "time"

type anthropicModels struct {
	Data    []anthropicModel `json:"data"`
	HasMore bool             `json:"has_more"`
	FirstID *string          `json:"first_id"`
	LastID  *string          `json:"last_id"`
}

type anthropicModel struct {
	Type        string `json:"type"`
	ID          string `json:"id"`
	DisplayName string `json:"display_name"`
	CreatedAt   string `json:"created_at"` // 1970 where it isn't known, as Anthropic has it
}

// anthropicList is all models on one page, whatever size was asked for.
func anthropicList(models []Model) anthropicModels {
	list := anthropicModels{Data: make([]anthropicModel, len(models))}
	for i := range models {
		list.Data[i] = anthropicItem(models[i])
	}
	if n := len(models); n > 0 {
		list.FirstID, list.LastID = &models[0].ID, &models[n-1].ID
	}
	return list
}

func anthropicItem(m Model) anthropicModel {
	created := m.Created
	if created.IsZero() {
		created = time.Unix(0, 0)
	}
	return anthropicModel{Type: "model", ID: m.ID, DisplayName: m.ID, CreatedAt: created.UTC().Format(time.RFC3339)}
}
