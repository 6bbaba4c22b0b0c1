//! What would break a client or a pod of the last release: `released/` is what it speaks. During a canary both are there.
//!
//! After a release, copy `user/user.proto` to `released/user/user.proto`.

use std::collections::BTreeMap;

use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto};

use crate::contract;

/// Everything in `new` that does not understand `old`, or that `old` does not understand.
fn breaks(old: &FileDescriptorProto, new: &FileDescriptorProto) -> Vec<String> {
    let mut found = Vec::new();
    if old.package() != new.package() {
        found.push(format!("package {} is now {}", old.package(), new.package()));
    }
    let messages = by_name(&new.message_type, DescriptorProto::name);
    for message in &old.message_type {
        match messages.get(message.name()) {
            Some(new) => breaks_of_message(message.name(), message, new, &mut found),
            None => found.push(format!("message {} is gone", message.name())),
        }
    }
    breaks_of_enums("", &old.enum_type, &new.enum_type, &mut found);
    for service in &old.service {
        let Some(new) = new.service.iter().find(|new| new.name() == service.name()) else {
            found.push(format!("service {} is gone", service.name()));
            continue;
        };
        for method in &service.method {
            let name = format!("{}.{}", service.name(), method.name());
            match new.method.iter().find(|new| new.name() == method.name()) {
                None => found.push(format!("method {name} is gone")),
                Some(new) => {
                    let wire = |method: &prost_types::MethodDescriptorProto| {
                        (
                            method.input_type().to_owned(),
                            method.output_type().to_owned(),
                            method.client_streaming(),
                            method.server_streaming(),
                        )
                    };
                    if wire(method) != wire(new) {
                        found.push(format!("method {name} takes or gives something else"));
                    }
                }
            }
        }
    }
    found
}

fn by_name<T>(all: &[T], name: impl Fn(&T) -> &str) -> BTreeMap<String, &T> {
    all.iter().map(|one| (name(one).to_owned(), one)).collect()
}

fn breaks_of_message(path: &str, old: &DescriptorProto, message: &DescriptorProto, found: &mut Vec<String>) {
    for field in &old.field {
        let name = format!("{path}.{}", field.name());
        let same_number = message.field.iter().find(|new| new.number() == field.number());
        match same_number {
            Some(new) => {
                if new.name() != field.name() {
                    found.push(format!("field {name} is now called {}", new.name()));
                }
                if wire_form(old, field) != wire_form(message, new) {
                    found.push(format!("field {name} has another type"));
                }
            }
            None => {
                let number = field.number();
                let reserved = message
                    .reserved_range
                    .iter()
                    .any(|range| (range.start()..range.end()).contains(&number))
                    && message.reserved_name.iter().any(|reserved| reserved == field.name());
                if !reserved {
                    found.push(format!(
                        "field {name} is gone, and its number and name are not reserved"
                    ));
                }
            }
        }
    }
    let nested = by_name(&message.nested_type, DescriptorProto::name);
    for old in &old.nested_type {
        let path = format!("{path}.{}", old.name());
        match nested.get(old.name()) {
            Some(new) => breaks_of_message(&path, old, new, found),
            None => found.push(format!("message {path} is gone")),
        }
    }
    breaks_of_enums(path, &old.enum_type, &message.enum_type, found);
}

/// All of a field that is seen on the wire, in JSON or in generated code, but its name and number.
fn wire_form(message: &DescriptorProto, field: &FieldDescriptorProto) -> impl PartialEq {
    let oneof = field
        .oneof_index
        .and_then(|index| message.oneof_decl.get(usize::try_from(index).unwrap()))
        .map(|oneof| oneof.name().to_owned());
    (
        field.r#type(),
        field.label(),
        field.type_name().to_owned(),
        field.json_name().to_owned(),
        oneof,
    )
}

fn breaks_of_enums(path: &str, old: &[EnumDescriptorProto], new: &[EnumDescriptorProto], found: &mut Vec<String>) {
    for old in old {
        let name = format!("{path}.{}", old.name());
        let Some(new) = new.iter().find(|new| new.name() == old.name()) else {
            found.push(format!("enum {name} is gone"));
            continue;
        };
        for value in &old.value {
            if !new
                .value
                .iter()
                .any(|new| (new.number(), new.name()) == (value.number(), value.name()))
            {
                found.push(format!("value {} of enum {name} is gone or another", value.name()));
            }
        }
    }
}

#[test]
fn the_last_released_contract_is_still_spoken() {
    let found = breaks(&contract("released"), &contract("."));
    assert!(
        found.is_empty(),
        "clients and pods of the last release would not understand: {found:#?}"
    );
}

/// Each kind of break, made on purpose.
#[test]
fn breaks_are_found() {
    let released = contract("released");
    let broken = |edit: &dyn Fn(&mut FileDescriptorProto)| {
        let mut new = released.clone();
        edit(&mut new);
        breaks(&released, &new)
    };
    assert_eq!(broken(&|_| ()), Vec::<String>::new());
    let user = released
        .message_type
        .iter()
        .position(|message| message.name() == "User")
        .unwrap();
    let list = released
        .message_type
        .iter()
        .position(|message| message.name() == "ListUsersResponse")
        .unwrap();
    for (edit, expected) in [
        (
            &(|new: &mut FileDescriptorProto| new.package = Some("user.v1".to_owned()))
                as &dyn Fn(&mut FileDescriptorProto),
            "package user is now user.v1",
        ),
        (
            &|new| drop(new.message_type.remove(list)),
            "message ListUsersResponse is gone",
        ),
        (
            &|new| new.message_type[user].field[1].name = Some("mail".to_owned()),
            "field User.email is now called mail",
        ),
        (
            &|new| new.message_type[user].field[1].set_type(prost_types::field_descriptor_proto::Type::Bytes),
            "field User.email has another type",
        ),
        (
            &|new| new.message_type[list].field[0].set_label(prost_types::field_descriptor_proto::Label::Optional),
            "field ListUsersResponse.users has another type",
        ),
        (
            &|new| drop(new.message_type[user].field.remove(1)),
            "field User.email is gone, and its number and name are not reserved",
        ),
        (
            &|new| new.service[0].name = Some("Users".to_owned()),
            "service UserService is gone",
        ),
        (
            &|new| drop(new.service[0].method.remove(1)),
            "method UserService.GetUser is gone",
        ),
        (
            &|new| new.service[0].method[1].server_streaming = Some(true),
            "method UserService.GetUser takes or gives something else",
        ),
    ] {
        assert!(
            broken(edit).iter().any(|found| found == expected),
            "{expected}: {:?}",
            broken(edit)
        );
    }
    let added = broken(&|new| {
        let field = FieldDescriptorProto {
            name: Some("nickname".to_owned()),
            number: Some(99),
            ..FieldDescriptorProto::default()
        };
        new.message_type[user].field.push(field);
    });
    assert!(added.is_empty(), "what is added breaks nobody: {added:?}");
}
