//! The steps on multipart uploads.

use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::*;

impl Model {
    pub async fn put_part(&mut self, rig: &Rig, upload: usize, number: i32, body: Vec<u8>) {
        let Some(upload) = self.uploads.get_mut(upload) else { return };
        let put = rig.client.upload_part().bucket(BUCKET).key(upload.key).upload_id(&upload.id);
        let put = put.part_number(number).body(ByteStream::from(body.clone()));
        match put.send().await {
            Ok(put) => {
                assert!(upload.open);
                upload.parts.insert(number, (body, put.e_tag.unwrap()));
            }
            Err(error) => {
                assert_eq!((code(&error), upload.open), ((404, "NoSuchUpload".into()), false))
            }
        }
    }

    pub async fn copy_part(
        &mut self,
        rig: &Rig,
        upload: usize,
        number: i32,
        source: &'static str,
        half: bool,
        demand: Demand,
    ) {
        let if_match = self.if_match(source, demand);
        let Some(upload) = self.uploads.get_mut(upload) else { return };
        let path = utf8_percent_encode(source, NON_ALPHANUMERIC);
        let copy = rig.client.upload_part_copy().bucket(BUCKET).key(upload.key);
        let copy = copy.upload_id(&upload.id).part_number(number);
        let copy = copy.copy_source(format!("{BUCKET}/{path}")).set_copy_source_if_match(if_match);
        let body = self.objects.get(source).map(|object| &object.body);
        let length = body.map_or(0, Vec::len);
        let half = half && length > 1;
        let range = if half { length / 2..length } else { 0..length };
        let header = half.then(|| format!("bytes={}-{}", range.start, range.end - 1));
        let refusal = if !upload.open {
            Some((404, "NoSuchUpload"))
        } else if body.is_none() {
            Some((404, "NoSuchKey"))
        } else if demand == Demand::Another {
            Some((412, "PreconditionFailed"))
        } else if half && length <= 5 * MIB {
            Some((400, "InvalidRequest"))
        } else {
            None
        };
        let copied = copy.set_copy_source_range(header).send().await;
        let refusal = refusal.map(|(status, code)| (status, code.to_owned()));
        assert_eq!(copied.as_ref().err().map(code), refusal);
        if let Ok(copied) = copied {
            let etag = copied.copy_part_result.unwrap().e_tag.unwrap();
            upload.parts.insert(number, (body.unwrap()[range].to_vec(), etag));
        }
    }

    pub async fn list_parts(&self, rig: &Rig, upload: usize) {
        let Some(upload) = self.uploads.get(upload) else { return };
        let list = rig.client.list_parts().bucket(BUCKET).key(upload.key).upload_id(&upload.id);
        let listed = list.send().await;
        assert_eq!(listed.is_ok(), upload.open);
        let Ok(listed) = listed else { return };
        let listed: Vec<_> = listed
            .parts()
            .iter()
            .map(|part| (part.part_number(), part.size(), part.e_tag().map(str::to_owned)))
            .collect();
        let parts = upload.parts.iter().map(|(number, (body, etag))| {
            (Some(*number), Some(body.len() as i64), Some(etag.clone()))
        });
        assert_eq!(listed, parts.collect::<Vec<_>>());
    }

    pub async fn complete(&mut self, rig: &Rig, index: usize, skip: i32, demand: Demand) {
        let Some(upload) = self.uploads.get(index) else { return };
        let chosen = upload.parts.iter().filter(|(number, _)| **number != skip);
        let parts = chosen.clone().map(|(number, (_, etag))| {
            CompletedPart::builder().part_number(*number).e_tag(etag).build()
        });
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts.collect())).build();
        let bodies: Vec<&[u8]> = chosen.map(|(_, (body, _))| body.as_slice()).collect();
        let whole = bodies.concat();
        let complete = rig.client.complete_multipart_upload().bucket(BUCKET).key(upload.key);
        let complete = complete.upload_id(&upload.id).multipart_upload(parts);
        let complete = complete
            .checksum_crc64_nvme(crc64(&whole))
            .set_if_none_match(if_none_match(demand))
            .set_if_match(self.if_match(upload.key, demand));
        let completed = complete.send().await;
        if !upload.open {
            // Asked again, it answers as it did for as long as what it made is there.
            let made = self.objects.get(upload.key).filter(|one| one.made_by == Some(index));
            match (completed, made) {
                (Ok(again), Some(made)) => assert_eq!(again.e_tag, Some(made.etag.clone())),
                (Err(error), None) => assert_eq!(code(&error), (404, "NoSuchUpload".into())),
                (other, _) => panic!("{other:?}"),
            }
            return;
        }
        let too_small = bodies.iter().rev().skip(1).any(|body| body.len() < 5 * MIB);
        let refusal = if bodies.is_empty() {
            Some((400, "MalformedXML".to_owned()))
        } else if too_small {
            Some((400, "EntityTooSmall".to_owned()))
        } else {
            self.refusal(upload.key, demand)
        };
        assert_eq!(completed.as_ref().err().map(code), refusal);
        if let Ok(completed) = completed {
            let (key, etag) = (upload.key, completed.e_tag.unwrap());
            self.uploads[index].open = false;
            self.objects.insert(key, ModelObject { body: whole, etag, made_by: Some(index) });
        }
    }

    pub async fn abort(&mut self, rig: &Rig, upload: usize) {
        let Some(upload) = self.uploads.get_mut(upload) else { return };
        let abort = rig.client.abort_multipart_upload().bucket(BUCKET).key(upload.key);
        let aborted = abort.upload_id(&upload.id).send().await;
        let refusal = (!upload.open).then(|| (404, "NoSuchUpload".to_owned()));
        assert_eq!(aborted.as_ref().err().map(code), refusal);
        upload.open = false;
    }

    pub async fn list_uploads(&self, rig: &Rig, size: i32) {
        let (mut seen, mut marker) = (Vec::new(), (None, None));
        loop {
            let list = rig.client.list_multipart_uploads().bucket(BUCKET).max_uploads(size);
            let list = list.set_key_marker(marker.0).set_upload_id_marker(marker.1);
            let page = list.send().await.unwrap();
            assert!(page.uploads().len() <= size as usize);
            seen.extend(
                page.uploads().iter().map(|one| {
                    (one.key().unwrap().to_owned(), one.upload_id().unwrap().to_owned())
                }),
            );
            marker = (page.next_key_marker, page.next_upload_id_marker);
            if page.is_truncated != Some(true) {
                break;
            }
        }
        let open = self.uploads.iter().filter(|upload| upload.open);
        let mut open: Vec<_> = open.map(|one| (one.key.to_owned(), one.id.clone())).collect();
        open.sort();
        assert_eq!(seen, open);
    }
}
