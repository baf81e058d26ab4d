//! Properties of the history, and of texts.

use std::sync::Arc;

use super::StoreFactory;
use super::sample::{ENDPOINT, SAGA, at, commit, envelope, id, instance, journal, row};
use crate::commit::{DeadLetterRow, JournalEffect, JournalOutcome, JournalRow, OutboxRow, TimerKind, TimerRow};
use crate::failure::FailureKind;
use crate::message::{Body, Envelope};
use crate::store::StoreError;

/// The history of an instance is in the order in which it was written, across commits, with every field.
pub async fn history_keeps_order_and_every_field(factory: &dyn StoreFactory) -> Result<(), StoreError> {
    let store = factory.open().await;
    let effect = JournalEffect { kind: "write".into(), name: None, message_id: None, endpoint: None, due: None };
    let rich = JournalRow {
        version: None,
        initiator_id: Some(id("initiator")),
        user: Some("maria".to_owned()),
        attempt: 3,
        outcome: JournalOutcome::Faulted,
        from: Some("Begun".into()),
        to: Some("Moved".into()),
        effects: vec![
            effect.clone(),
            JournalEffect {
                kind: "schedule".into(),
                name: Some("Conformance:Late".into()),
                message_id: Some(id("timer")),
                endpoint: Some(ENDPOINT.into()),
                due: Some(at(123_456)),
            },
        ],
        error: Some("the gateway is down".to_owned()),
        at: at(-1),
        ..journal(id(1), 1)
    };
    let outcomes = JournalOutcome::ALL.map(|outcome| JournalRow { outcome, ..journal(id(1), 2) });
    let mut expected = vec![journal(id(1), 5), rich];
    let other = journal(id(2), 1);
    let foreign = JournalRow { saga: "another saga".into(), ..journal(id(1), 1) };
    let first = [&expected[..], &[other.clone(), foreign.clone()]].concat();
    store.commit(commit(|it| it.journal = first)).await?;
    store.commit(commit(|it| it.journal = outcomes.to_vec())).await?;
    expected.extend(outcomes);

    assert_eq!(store.journal(SAGA, id(1)).await?, expected);
    assert_eq!(store.journal(SAGA, id(2)).await?, [other]);
    assert_eq!(store.journal("another saga", id(1)).await?, [foreign]);
    Ok(())
}

/// Quotes, other alphabets, line ends, what looks like SQL or JSON: texts come back as they were.
pub async fn odd_texts_come_back_as_they_were(factory: &dyn StoreFactory) -> Result<(), StoreError> {
    let odd = [
        "",
        " ",
        "O'Brien \"said\" `so`",
        "'); DROP TABLE saga_inbox; --",
        "back\\slash \\u0041 \\n",
        "line\r\nline\ttab\u{1}\u{7f}",
        "Größe, 注文, заказ, 🧾👩‍👩‍👧, e\u{301}",
        "\u{feff}\u{202e}right to left",
        "?1 $1 :name %s {} [\"json\"] null",
        "123",
        "1e5",
    ];
    let store = factory.open().await;
    for (n, odd) in odd.into_iter().enumerate() {
        let mut line = JournalRow { user: Some(odd.to_owned()), error: Some(odd.to_owned()), ..journal(id(n), 1) };
        line.message = Body::of(&serde_json::json!({ odd: odd }));
        let mut step = instance(id(n), 0, 1);
        step.data = Body::of(&[odd]).as_str().to_owned();
        let letter =
            Arc::new(Envelope { source_address: Some(odd.to_owned()), ..(*envelope(id(n))).clone().for_user(odd) });
        let out = OutboxRow { destination: Some(odd.into()), envelope: letter.clone() };
        let dead = DeadLetterRow::new(&letter, odd.into(), FailureKind::Panic, odd, at(0));
        let late = TimerRow {
            token: id(n),
            endpoint: odd.into(),
            kind: TimerKind::Redelivery,
            due: at(0),
            envelope: letter.clone(),
        };
        let written = commit(|it| {
            it.instances = vec![step.clone()];
            it.journal = vec![line.clone()];
            it.rows = vec![row(odd)];
            it.outbox = vec![out.clone()];
            it.timers = vec![late.clone()];
            it.dead_letters = vec![dead.clone()];
        });
        let sent = store.commit(written).await?;
        assert_eq!(store.journal(SAGA, id(n)).await?, [line]);
        assert_eq!(store.instance(SAGA, id(n)).await?.map(|it| it.data.as_str().to_owned()), Some(step.data));
        assert_eq!(store.outbox(0, 10).await?.rows, [(sent[0], out)]);
        assert_eq!(store.due_timers(at(0), 10).await?.rows, [late]);
        assert_eq!(store.dead_letter(dead.id).await?, Some(dead));
        store.commit(commit(|it| (it.settled, it.cancelled) = (sent, vec![id(n)]))).await?;
    }
    let rows: Vec<_> = factory.rows().await.into_iter().map(|row| row.text).collect();
    assert_eq!(rows, odd);
    Ok(())
}
