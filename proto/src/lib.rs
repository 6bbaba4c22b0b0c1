//! The protobuf contract `user.UserService`: messages, client, server and descriptors.
//! It must not know how the service keeps users, nor who calls it.

mod generated {
    #![allow(
        clippy::pedantic,
        unreachable_pub,
        missing_debug_implementations,
        reason = "written by tonic-prost-build"
    )]

    tonic::include_proto!("user");
}

pub use generated::*;

/// The contract and everything it imports, encoded, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("user_descriptor");

/// The service's name on the wire: what clients call, routes match and health checks ask for.
pub const SERVICE_NAME: &str = user_service_server::SERVICE_NAME;

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    fn contract() -> prost_types::FileDescriptorProto {
        let set = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
        set.file.into_iter().find(|file| file.package() == "user").unwrap()
    }

    #[test]
    fn wire_name_is_fixed() {
        assert_eq!(SERVICE_NAME, "user.UserService");
    }

    #[test]
    fn descriptors_name_every_method() {
        let file = contract();
        let methods: Vec<_> = file.service[0]
            .method
            .iter()
            .map(prost_types::MethodDescriptorProto::name)
            .collect();
        assert_eq!(
            methods,
            ["CreateUser", "GetUser", "UpdateUser", "DeleteUser", "ListUsers"]
        );
    }

    /// Numbers are forever: clients of an older revision read what this one writes.
    #[test]
    fn field_numbers_of_a_user_are_fixed() {
        let file = contract();
        let user = file
            .message_type
            .iter()
            .find(|message| message.name() == "User")
            .unwrap();
        let fields: Vec<_> = user.field.iter().map(|field| (field.name(), field.number())).collect();
        let expected = [
            ("id", 1),
            ("email", 2),
            ("display_name", 3),
            ("create_time", 4),
            ("update_time", 5),
            ("etag", 6),
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn descriptors_carry_the_comments_for_people_who_reflect() {
        assert!(contract().source_code_info.is_some());
    }
}
