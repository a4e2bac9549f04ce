//! The steps on objects.

use aws_sdk_s3::types::{Delete, ObjectIdentifier};

use super::*;

impl Model {
    pub async fn put(&mut self, rig: &Rig, key: &'static str, body: Vec<u8>, demand: Demand) {
        let put = rig.client.put_object().bucket(BUCKET).key(key);
        let put = put.checksum_crc64_nvme(crc64(&body)).body(ByteStream::from(body.clone()));
        let put = put.set_if_none_match(if_none_match(demand));
        let put = put.set_if_match(self.if_match(key, demand)).send().await;
        assert_eq!(put.as_ref().err().map(code), self.refusal(key, demand), "{key} {demand:?}");
        if let Ok(put) = put {
            let etag = put.e_tag.unwrap();
            self.objects.insert(key, ModelObject { body, etag, made_by: None });
        }
    }

    pub async fn put_damaged(&self, rig: &Rig, key: &'static str) {
        let put = rig.client.put_object().bucket(BUCKET).key(key).checksum_crc64_nvme(crc64(b"x"));
        let refused = put.body(ByteStream::from_static(b"y")).send().await.unwrap_err();
        assert_eq!(code(&refused), (400, "BadDigest".into()));
        self.is_as_it_was(rig, key).await;
    }

    /// The whole of it, as HEAD tells it.
    async fn is_as_it_was(&self, rig: &Rig, key: &str) {
        let head = rig.client.head_object().bucket(BUCKET).key(key).send().await;
        let found = head.ok().map(|head| (head.e_tag, head.content_length));
        let object = self.objects.get(key);
        let expected =
            object.map(|object| (Some(object.etag.clone()), Some(object.body.len() as i64)));
        assert_eq!(found, expected, "{key}");
    }

    pub async fn get(&self, rig: &Rig, key: &'static str, from: usize, length: usize) {
        self.is_as_it_was(rig, key).await;
        let range = format!("bytes={from}-{}", from + length - 1);
        let got = rig.client.get_object().bucket(BUCKET).key(key).range(range).send().await;
        match (got, self.objects.get(key).map(|object| &object.body)) {
            (Ok(got), Some(body)) => {
                assert_eq!(bytes(got).await, body[from..body.len().min(from + length)])
            }
            (Err(error), Some(body)) => {
                assert_eq!((code(&error).0, from >= body.len()), (416, true))
            }
            (Err(error), None) => assert_eq!(code(&error), (404, "NoSuchKey".into())),
            (Ok(_), None) => panic!("{key} should not be there"),
        }
    }

    pub async fn delete(&mut self, rig: &Rig, key: &'static str, demand: Demand) {
        let delete = rig.client.delete_object().bucket(BUCKET).key(key);
        let delete = delete.set_if_match(self.if_match(key, demand)).send().await;
        // That nothing is there is no error to a deletion.
        let refusal = self.refusal(key, demand).filter(|_| self.objects.contains_key(key));
        assert_eq!(delete.as_ref().err().map(code), refusal, "{key} {demand:?}");
        if delete.is_ok() {
            self.objects.remove(key);
        }
    }

    pub async fn delete_many(&mut self, rig: &Rig, keys: &[usize]) {
        let named =
            keys.iter().map(|key| ObjectIdentifier::builder().key(KEYS[*key]).build().unwrap());
        let named = Delete::builder().set_objects(Some(named.collect())).build().unwrap();
        let deleted = rig.client.delete_objects().bucket(BUCKET).delete(named).send().await;
        assert!(deleted.unwrap().errors().is_empty());
        keys.iter().for_each(|key| drop(self.objects.remove(KEYS[*key])));
    }

    pub async fn list(
        &self,
        rig: &Rig,
        prefix: &'static str,
        delimiter: bool,
        size: i32,
        after: Option<&'static str>,
    ) {
        let (mut seen, mut token) = (BTreeMap::new(), None::<String>);
        loop {
            let list = rig.client.list_objects_v2().bucket(BUCKET).prefix(prefix).max_keys(size);
            let list = list.set_delimiter(delimiter.then(|| "/".to_owned()));
            let list = list.set_start_after(after.map(str::to_owned));
            let page = list.set_continuation_token(token.take()).send().await.unwrap();
            let objects = page.contents().iter();
            let objects = objects.map(|object| (object.key().unwrap().to_owned(), object.size()));
            let prefixes = page.common_prefixes().iter();
            let prefixes = prefixes.map(|one| (one.prefix().unwrap().to_owned(), None));
            let found: Vec<_> = objects.chain(prefixes).collect();
            assert!(found.len() <= size as usize);
            for (name, size) in found {
                assert_eq!(seen.insert(name, size), None, "once only");
            }
            token = page.next_continuation_token;
            if token.is_none() {
                break;
            }
        }
        let mut expected = BTreeMap::new();
        let behind = |key: &str| after.is_none_or(|after| key > after);
        let objects = self.objects.iter().filter(|(key, _)| key.starts_with(prefix));
        for (key, object) in objects.filter(|(key, _)| behind(key)) {
            match key[prefix.len()..].find('/').filter(|_| delimiter) {
                Some(at) => expected.insert(key[..=prefix.len() + at].to_owned(), None),
                None => expected.insert((*key).to_owned(), Some(object.body.len() as i64)),
            };
        }
        assert_eq!(seen, expected);
    }
}
